"""What a program has processed in its window: of all that its DataLoaders have yielded, what it trained on (pure)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from bench.rank.program.marks import CAPACITY, Marks


class Trained(NamedTuple):
    """What was processed in the steps of a window."""

    amount: float
    """In units of work, in all steps together."""
    loaders: frozenset[int]
    """The numbers of the DataLoaders that it came from."""


def trained_in(marks: Marks, first: int, last: int) -> Trained:
    """What a program trained on in the steps after mark ``first`` up to mark ``last``.

    These are the batches of the DataLoaders that yield in more than half of the steps: two of them, where a step takes
    a batch of each. Where none does, since a program makes others for each epoch or takes several steps for a batch, it
    is in each step the loader that yielded last before its end: one for evaluation is used between two steps.
    """
    steps = last - first
    yields = [_yields(marks, loader, first, last) for loader in range(len(marks.amounts))]
    usual = frozenset(loader for loader, amounts in enumerate(yields) if 2 * sum(map(bool, amounts)) > steps)
    if usual:
        return Trained(sum(sum(yields[loader]) for loader in usual), usual)
    last_loaders = [marks.last_loader[number % CAPACITY] for number in range(first + 1, last + 1)]
    found = [(yields[loader][step], loader) for step, loader in enumerate(last_loaders) if loader < len(yields)]
    return Trained(sum(amount for amount, _ in found), frozenset(loader for amount, loader in found if amount))


def _yields(marks: Marks, loader: int, first: int, last: int) -> list[float]:
    """What a DataLoader has yielded in each step."""
    totals = [marks.amounts[loader][number % CAPACITY] for number in range(first, last + 1)]
    return [after - before for before, after in itertools.pairwise(totals)]
