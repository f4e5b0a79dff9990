"""Interleaved pairs: the same cases under the running code and under another commit, in turn, in one session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.core.case import Case
from harness.check.sides import PairContext, Side, SideName, backends_of
from harness.check.source_trees import checked_out, head_tree
from harness.planning.plan import shuffle_cases
from harness.store.ledger import PairTrial

MAX_FAILED_PAIRS = 2
"""Pairs of a case in a row that gave no number: the next would cost its time and give none either."""


class PairWatcherProtocol(Protocol):
    """Is told what happens, to show it to people."""

    def begins(self, case: Case, pair: int, side: str) -> None: ...

    def ends(self, pair_trial: PairTrial) -> None: ...


@contextmanager
def open_sides(rev: str, cases: Sequence[Case], folder: Path, environment: str) -> Iterator[tuple[Side, Side]]:
    """Head and base, ready for :func:`interleave` as often as it takes; afterwards nothing of them is left.

    ``cases``: all that may be asked of them. ``folder``: for logs, and what failed trials leave.
    Raises :class:`harness.errors.UsageError`.
    """
    context = PairContext(folder, environment, backends_of(cases))
    head = head_tree()
    with checked_out(rev) as base, Side("head", head, context) as ours, Side("base", base, context) as theirs:
        yield ours, theirs


def interleave(
    sweep: str,
    cases: Sequence[Case],
    head: Side,
    base: Side,
    first_pair: int,
    pairs: int,
    watcher: PairWatcherProtocol,
    *,
    seed: int = 0,
    decompose: bool = False,
) -> Iterator[PairTrial]:
    """Pairs ``first_pair`` and the next of every case, each trial as it ends.

    A side that can't be run gives each case one failed trial with the reason, and nothing else is run; its
    ``unavailable_reason`` says the same. A case that fails again and again is given up. ``decompose``: tell the parts
    of a step apart, where that is what the suspicion is about; nothing else is measured after a window.
    """
    pair_cases = [timing_only_case(case, decompose=decompose) for case in cases]
    failed: Counter[str] = Counter()

    def run(side: Side, case: Case, pair: int) -> PairTrial:
        watcher.begins(case, pair, side.name)
        trial = side.measure(case, pair)
        pair_trial = PairTrial(
            sweep=sweep, key=case.key, pair=pair, side=side.name, commit=side.tree.commit, trial=trial
        )
        watcher.ends(pair_trial)
        return pair_trial

    for side in (head, base):
        if side.begin() is not None:
            yield from (run(side, case, first_pair) for case in pair_cases)
            return
    for pair, case in pair_schedule(pair_cases, first_pair, pairs, seed):
        if failed[case.key] == MAX_FAILED_PAIRS:
            continue
        outcomes = set()
        for name in side_order(pair):
            pair_trial = run({"head": head, "base": base}[name], case, pair)
            outcomes.add(pair_trial.trial.outcome)
            yield pair_trial
        failed[case.key] = 0 if outcomes == {"ok"} else failed[case.key] + 1
        if head.unavailable_reason or base.unavailable_reason:
            return


def pair_schedule(cases: Sequence[Case], first_pair: int, pairs: int, seed: int) -> Iterator[tuple[int, Case]]:
    """Every case once a round of pairs, each round in its own seeded order (pure)."""
    for pair in range(first_pair, first_pair + pairs):
        for case in shuffle_cases(cases, seed, pair):
            yield pair, case


def side_order(pair: int) -> tuple[SideName, SideName]:
    """Who goes first takes turns, so that what drifts in the course of a pair cancels over two of them (pure)."""
    return ("head", "base") if pair % 2 == 0 else ("base", "head")


def timing_only_case(case: Case, *, decompose: bool) -> Case:
    """The night's case without what it measured beside its steps (pure)."""
    return case.model_copy(update={"own_cost": False, "roofline": False, "decompose": decompose})
