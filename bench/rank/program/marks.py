"""The ends of a program's steps, in memory that is allocated before the first one."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence

CAPACITY = 2**16
"""The steps that are remembered: the last ones. A power of two."""
SLOTS = 8
"""The most DataLoaders that are told apart."""


class Marks:
    """When each of the last :data:`CAPACITY` steps ended, and how much had been fetched by then."""

    def __init__(self) -> None:
        self.count = 0
        """The number of the last mark, from 1; 0: there is none."""
        self.wall_ns = array("q", bytes(8 * CAPACITY))
        """On the monotonic clock, by ``number % CAPACITY``."""
        self.cpu_ns = array("q", bytes(8 * CAPACITY))
        """Processor time of the process."""
        self.amounts = tuple(array("d", bytes(8 * CAPACITY)) for _ in range(SLOTS))
        """What each DataLoader had yielded by then, in units of work."""

    def holds(self, first: int) -> bool:
        """Whether the mark of that number is still remembered."""
        return 0 < first <= self.count < first + CAPACITY

    def durations_s(self, first: int, last: int) -> list[float]:
        """The durations of the steps after mark ``first`` up to mark ``last``, in seconds."""
        ends = [self.wall_ns[number % CAPACITY] for number in range(first, last + 1)]
        return [(after - before) / 1e9 for before, after in itertools.pairwise(ends)]

    def between_s(self, first: int, last: int) -> float:
        """The time between two marks, in seconds."""
        return (self.wall_ns[last % CAPACITY] - self.wall_ns[first % CAPACITY]) / 1e9

    def cpu_between_s(self, first: int, last: int) -> float:
        """The processor time between two marks, in seconds."""
        return (self.cpu_ns[last % CAPACITY] - self.cpu_ns[first % CAPACITY]) / 1e9

    def at_s(self, number: int) -> float:
        """When a step ended, in seconds of the monotonic clock."""
        return self.wall_ns[number % CAPACITY] / 1e9


def trained_slots(amounts: Sequence[Sequence[float]], first: int, last: int) -> tuple[int, ...]:
    """The DataLoaders that a program trains on: those that yield in more than half of the steps (pure).

    A loader of another kind, for evaluation, yields between a few steps only.

    Args:
        amounts: As :attr:`Marks.amounts`.
        first: The number of the mark at which the window begins.
        last: That at which it ends.
    """
    steps = last - first

    def yielding_steps(slot: Sequence[float]) -> int:
        values = [slot[number % CAPACITY] for number in range(first, last + 1)]
        return sum(after > before for before, after in itertools.pairwise(values))

    yielding = [yielding_steps(slot) for slot in amounts]
    trained = tuple(number for number, count in enumerate(yielding) if 2 * count > steps)
    if trained:
        return trained
    # Batches of several steps each: the loader that yields most.
    most = max(yielding, default=0)
    return (yielding.index(most),) if most else ()
