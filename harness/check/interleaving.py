"""Interleaved pairs: the same cases alternately under the running code and another commit, in one session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.core.case import Case
from harness.check.compared_code import ComparedCode
from harness.check.sides import PairContext, Side, SideName, backends_of, programs_only
from harness.check.source_trees import OWN_CODE, checked_out, head_tree
from harness.planning.plan import shuffle_cases
from harness.store.ledger import PairTrial
from harness.sweep.machine_access import WaitWatcher, open_machine_access

MAX_FAILED_PAIRS = 2
"""Consecutive failed pairs after which a case is given up."""


class PairWatcherProtocol(WaitWatcher, Protocol):
    """Shows the progress of pairs."""

    def begins(self, case: Case, pair: int, side: str) -> None:
        """Called before each trial."""

    def ends(self, pair_trial: PairTrial) -> None:
        """Called after each trial."""


@contextmanager
def open_sides(
    rev: str,
    cases: Sequence[Case],
    folder: Path,
    environment: str,
    code: ComparedCode = OWN_CODE,
    watcher: WaitWatcher | None = None,
) -> Iterator[tuple[Side, Side]]:
    """Head and base, for any number of calls of :func:`interleave`. Their processes and worktree end with the context.

    Args:
        rev: The commit of the base.
        cases: All cases that may be run.
        folder: For logs and the files of failed trials.
        environment: The id of the environment, for the trials.
        code: What the commits are of.
        watcher: Shows that a side waits for its turn on this machine; ``None``: that is logged.

    Raises:
        UsageError: Where the base cannot be checked out.
    """
    head = head_tree(code)
    with open_machine_access("pairs of `check`") as access, checked_out(rev, code) as base:
        access.watcher = watcher or access.watcher
        context = PairContext(folder, environment, backends_of(cases), code, programs_only(cases), access=access)
        with Side("head", head, context) as ours, Side("base", base, context) as theirs:
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
    """Run pairs of every case; yields each trial when it ends.

    A side that cannot be run gives one failed trial for each case, with :attr:`Side.unavailable_reason`; nothing else
    is run then. A case is given up after :data:`MAX_FAILED_PAIRS` failed pairs in a row.

    Args:
        sweep: The night whose suspects are confirmed.
        cases: The cases to run.
        head: The running code.
        base: The code to compare it with.
        first_pair: Number of the first pair.
        pairs: Number of pairs.
        watcher: Shows the progress.
        seed: Seed of the order of the cases.
        decompose: Decompose steps, where the suspicion is about a part of them.
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
    """Every case once a round, each round in its own seeded order."""
    for pair in range(first_pair, first_pair + pairs):
        for case in shuffle_cases(cases, seed, pair):
            yield pair, case


def side_order(pair: int) -> tuple[SideName, SideName]:
    """The sides take turns in going first, so that a drift within pairs cancels over two of them."""
    return ("head", "base") if pair % 2 == 0 else ("base", "head")


def timing_only_case(case: Case, *, decompose: bool) -> Case:
    """The case without the measurements beside its steps, whose windows all have the given length: two sides that each
    chose their own would differ in more than their code."""
    return case.model_copy(update={"own_cost": False, "roofline": False, "decompose": decompose, "adapt_window": False})
