"""What a report keeps of the trials of a sweep: a summary of each case, and the first trials whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.core.case import Case
from bench.core.records import Trial
from harness.reporting.night import night_of
from harness.store.store import Store, SweepInfo
from harness.store.summaries import keep_nights, keep_summaries, read_summaries
from reports.analysis.case_groups import detailed_cases
from reports.analysis.case_summary import CaseSummary
from reports.analysis.cells import Cell
from reports.analysis.trial_measures import TrialOverhead, overhead_of

MAX_WHOLE_TRIALS = 2_000
"""For the rows of the file in the page. A trial holds every step of every rank."""
MAX_FIRST_TRIALS = 1_000
"""The same of a sweep with more, whose file is incomplete in any case."""


@dataclass(frozen=True)
class StoredTrials:
    """The trials of a sweep, without most of their steps."""

    summaries: Mapping[str, CaseSummary]
    """By the key of the case."""
    first: tuple[Trial, ...]
    """Those of the first cases, as :func:`planned_cases` orders them."""

    @property
    def count(self) -> int:
        return sum(summary.trials for summary in self.summaries.values())

    @property
    def overheads(self) -> tuple[TrialOverhead, ...]:
        """Of the trials that measured what measuring costs."""
        return tuple(one for summary in self.summaries.values() for one in summary.overheads)


def planned_cases(info: SweepInfo) -> list[Case]:
    """The cases of a sweep that run or are skipped, by workload in the order of the suite."""
    order = {name: number for number, name in enumerate(info.suite.workloads)}
    cases = [*info.plan.cases, *(skip.case for skip in info.plan.skips)]
    return sorted(cases, key=lambda case: order.get(case.workload, 0))


def read_trials(store: Store, info: SweepInfo, whole: int = MAX_WHOLE_TRIALS) -> StoredTrials:
    """Read the trials of a sweep, one part after the other.

    Of a large sweep that has ended the store keeps the summaries, where it can be written.

    Args:
        store: The store, open.
        info: The sweep.
        whole: How many trials are kept whole at most; those of one case are kept together.

    Raises:
        StoreError: The store can't be read.
    """
    cases = planned_cases(info)
    counts = store.trial_counts(info.id)
    first = _first_keys(cases, counts, whole if sum(counts.values()) <= whole else min(whole, MAX_FIRST_TRIALS))
    by_key: dict[str, list[Trial]] = {}

    def seen(key: str, trials: list[Trial]) -> None:
        if key in first:
            by_key[key] = trials

    possible = info.finished_at is not None

    def keep(made: Mapping[str, CaseSummary]) -> None:
        nonlocal possible
        possible = possible and keep_summaries(store.location, info.id, made)

    detailed = {*first, *(case.key for case in detailed_cases(cases))}
    summaries = read_summaries(store, info.id, cases, detailed, seen, keep)
    if unread := [key for key in first if key in summaries and key not in by_key]:
        by_key |= store.trials_of_cases(info.id, unread)
    return StoredTrials(summaries, tuple(trial for key in first for trial in by_key.get(key, ())))


def _first_keys(cases: Sequence[Case], counts: Mapping[str, int], whole: int) -> dict[str, None]:
    """In the order of the cases."""
    first: dict[str, None] = {}
    for case in cases:
        whole -= counts.get(case.key, 0)
        if whole < 0:
            break
        first[case.key] = None
    return first


def keep_night(store_url: str, info: SweepInfo, stored: StoredTrials, cells: Sequence[Cell]) -> None:
    """Have the store keep what an index needs of a sweep that has ended, so that it need not read the trials.

    Args:
        store_url: The store. Where it can't be written, or has an earlier format, it stays as it is.
        info: The sweep.
        stored: Its trials.
        cells: Its cells.
    """
    if info.finished_at is not None:
        keep_nights(store_url, [(night_of(info, cells, overhead_of(stored.overheads)), stored.count)])
