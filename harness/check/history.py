"""The history that a check judges by, read from a store: of a sweep, and of ingested benchmarks.

All runs that were ingested under one label are a night; each file is a run.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.core.case import Case
from harness.check.source_trees import SHORT_COMMIT_LENGTH
from harness.errors import UsageError
from harness.planning.environment import Environment
from harness.store.ledger import IngestedRun, Ledger, NightRow
from harness.store.store import Store, SweepInfo
from harness.sweep.runner import DIFFERENT_WORK
from reports.regression.evidence import AcceptedLevel, EarlierVerdicts, NightFacts, describe_differences
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.subjects import CellMeasures, Subject
from reports.regression.values import MetricSeries, NightTrials


@dataclass(frozen=True)
class SweepSelection:
    """The sweep to judge (default: the newest), perhaps of a suite, perhaps compared with one ``baseline`` only."""

    suite: str | None = None
    sweep: str | None = None
    baseline: str | None = None

    @property
    def explicit(self) -> bool:
        """Whether anything was named, which then must exist."""
        return any((self.suite, self.sweep, self.baseline))


@dataclass(frozen=True)
class SweepHistory:
    """A night with all that it is judged by."""

    info: SweepInfo
    cases: tuple[Case, ...]
    """Planned and skipped ones: a cell that is skipped now may have been measured earlier."""
    newest: NightFacts
    past: tuple[NightFacts, ...]
    """The oldest first."""
    earlier: tuple[NightRow, ...]
    """All earlier nights of the suite, on any machine."""
    judged: EarlierVerdicts
    trials: int
    pinned: str | None
    """The one night that may serve as reference."""


def gather_sweep(store: Store, which: SweepSelection) -> SweepHistory:
    """Read the history of the selected sweep. Raises :class:`UsageError` and :class:`StoreError`."""
    ledger = store.ledger
    newest, earlier = _choose(store, which)
    info = store.sweep(newest.id)
    environments = ledger.environments()
    chosen = _relevant_nights(environments, newest, earlier)
    pinned = None if which.baseline is None else _pinned(store, which.baseline, newest)
    if pinned is not None and pinned not in chosen:
        chosen = sorted([*chosen, pinned], key=lambda night: (night.started_at, night.id))
    facts = _facts(ledger, environments, [*chosen, newest])
    names = [night.id for night in (*chosen, newest)]
    outcomes = ledger.outcomes(newest.id)
    absent = {skip.case.key: skip.reason for skip in info.plan.skips}
    return SweepHistory(
        info=info,
        cases=(*info.plan.cases, *(skip.case for skip in info.plan.skips)),
        newest=_with_failures(facts[-1], outcomes, absent),
        past=tuple(facts[:-1]),
        earlier=tuple(earlier),
        judged=EarlierVerdicts(
            statuses=ledger.statuses(names),
            accepted=tuple(
                AcceptedLevel(acceptance.curve, acceptance.since, acceptance.at) for acceptance in ledger.acceptances()
            ),
        ),
        trials=len(outcomes),
        pinned=pinned.id if pinned else None,
    )


def _choose(store: Store, which: SweepSelection) -> tuple[NightRow, list[NightRow]]:
    """The sweep to judge and those of its suite before it, the oldest first."""
    nights = store.ledger.nights(which.suite)
    if which.sweep is not None:
        sweep_id = store.sweep(which.sweep).id
        nights = nights[: next((place for place, night in enumerate(nights, 1) if night.id == sweep_id), 0)]
    if not nights:
        named = f" {which.sweep}" if which.sweep else ""
        suite = f" of suite '{which.suite}'" if which.suite else ""
        raise UsageError(f"the store holds no sweep{named}{suite} to judge; see the sweeps in `.runs/`, or run one")
    newest = nights[-1]
    return newest, [night for night in nights[:-1] if night.suite == newest.suite]


def _pinned(store: Store, baseline: str, newest: NightRow) -> NightRow:
    sweep_id = store.sweep(baseline).id
    if sweep_id == newest.id:
        raise UsageError(f"--baseline {baseline} is the newest sweep itself; name an earlier one")
    return next(night for night in store.ledger.nights() if night.id == sweep_id)


def _relevant_nights(
    environments: Mapping[str, Environment], newest: NightRow, earlier: Sequence[NightRow]
) -> list[NightRow]:
    """The newest nights of the same machine and versions, and the last of another, for the reason where it is alone."""
    here = environments[newest.environment].place
    same_machine = {name for name, environment in environments.items() if environment.place == here}
    same = [night for night in earlier if night.environment in same_machine][-NIGHTS_KEPT:]
    other = [night for night in earlier if night.environment not in same_machine][-1:]
    return [night for night in earlier if night in same or night in other]


def _facts(ledger: Ledger, environments: Mapping[str, Environment], nights: Sequence[NightRow]) -> list[NightFacts]:
    names = [night.id for night in nights]
    numbers = _measures_by_night(ledger.measures(names))
    settings: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for (sweep, key), values in ledger.settings(names).items():
        settings[sweep][key] = values
    facts = []
    for night in nights:
        where = environments[night.environment]
        facts.append(
            NightFacts(
                night=night.id,
                started_at=night.started_at,
                place=where.place,
                commit=None if where.changed_files else where.commit,
                numbers=numbers.get(night.id, {}),
                settings=settings[night.id],
            )
        )
    return facts


def _measures_by_night(rows: Iterable[tuple[str, str, int, str, float]]) -> Mapping[str, CellMeasures]:
    """By sweep: case key → round → name → value."""
    by_night: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for sweep, key, round_number, name, value in rows:
        by_night.setdefault(sweep, {}).setdefault(key, {}).setdefault(round_number, {})[name] = value
    return by_night


def _with_failures(
    night: NightFacts, outcomes: Iterable[tuple[str, int, str, str | None]], absent: dict[str, str]
) -> NightFacts:
    """Add why cells failed: by any failed trial. Contaminated trials are dropped while others remain."""
    by_key: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for key, _, outcome, reason in outcomes:
        by_key[key].append((outcome, reason))
    failures = {}
    for key, ended in by_key.items():
        count = Counter(outcome for outcome, _ in ended)
        bad = next((name for name in ("failed", "timeout", "invalid") if count[name]), None)
        contaminated_only = (
            bad == "invalid"
            and count["ok"]
            and not any(outcome == "invalid" and (reason or "").startswith(DIFFERENT_WORK) for outcome, reason in ended)
        )
        if bad is not None and not contaminated_only:
            reason = next(reason for outcome, reason in ended if outcome == bad)
            failures[key] = f"{count[bad]} of {len(ended)} trials {bad}: {reason}"
    return NightFacts(
        night.night, night.started_at, night.place, night.commit, night.numbers, night.settings, failures, absent
    )


RunsByNight = Mapping[str, Sequence[IngestedRun]]


@dataclass(frozen=True)
class IngestedHistory:
    """The newest ingested night with its series; empty where it is older than the night before the newest sweep."""

    night: str | None = None
    tonight: str | None = None
    """The same, where its runs belong to the newest sweep."""
    series: tuple[tuple[Subject, MetricSeries], ...] = ()
    past: tuple[NightFacts, ...] = ()
    """Commits and machines of the earlier nights, without numbers."""
    commit: str | None = None
    """The commit that tonight's runs measured."""
    judged: EarlierVerdicts = field(default_factory=EarlierVerdicts)
    runs: int = 0


def gather_ingested(ledger: Ledger, sweeps: Sequence[NightRow], newest: NightFacts | None) -> IngestedHistory:
    """Read the newest ingested night.

    Tonight's runs are those since the sweep before the newest. Where the night before had some and tonight has none,
    they are missing.

    Args:
        ledger: Of the store.
        sweeps: The sweeps before the newest, the oldest first.
        newest: The newest sweep; ``None`` where the store has none.
    """
    nights = ledger.ingested_nights(NIGHTS_KEPT + 1)
    if not nights:
        return IngestedHistory()
    runs: dict[str, dict[str, list[IngestedRun]]] = defaultdict(lambda: defaultdict(list))
    for run in ledger.runs(nights):
        runs[run.benchmark][run.night].append(run)
    facts = {
        night: _ingested_facts(night, [one for by_night in runs.values() for one in by_night.get(night, ())])
        for night in nights
    }
    newest_started_at = facts[nights[-1]].started_at
    tonight = newest is None or not sweeps or newest_started_at >= sweeps[-1].started_at
    if not tonight and len(sweeps) > 1 and newest_started_at < sweeps[-2].started_at:
        return IngestedHistory()
    accepted = tuple(AcceptedLevel(one.curve, one.since, one.at) for one in ledger.acceptances())
    judged = EarlierVerdicts(ledger.statuses(nights), accepted)
    past = nights[:-1] if tonight else nights
    last = nights[-1] if tonight else None
    found = (
        (subject, _benchmark_series(subject, runs[subject.name], facts, past, last, judged))
        for subject in (Subject(name, "step", name, name, 0) for name in sorted(runs))
    )
    return IngestedHistory(
        night=nights[-1],
        tonight=last,
        series=tuple((subject, one) for subject, one in found if one is not None),
        past=tuple(facts[night] for night in past),
        commit=facts[nights[-1]].commit if tonight else None,
        judged=judged,
        runs=sum(len(by_night.get(last, ())) for by_night in runs.values()) if last else 0,
    )


def _ingested_facts(night: str, runs: Sequence[IngestedRun]) -> NightFacts:
    """The facts of a night, from its first run."""
    commit = runs[0].commit
    return NightFacts(
        night=night,
        started_at=max(run.at for run in runs),
        place=runs[0].place,
        commit=commit[:SHORT_COMMIT_LENGTH] if commit else None,
        numbers={},
        settings={},
    )


def _benchmark_series(
    subject: Subject,
    runs: RunsByNight,
    facts: Mapping[str, NightFacts],
    past: Sequence[str],
    newest: str | None,
    judged: EarlierVerdicts,
) -> MetricSeries | None:
    """The series of a benchmark; ``None`` where the last earlier night did not run it either."""
    before = [night for night in past if night in runs]
    newest_runs = runs.get(newest, ()) if newest else ()
    if not newest_runs or newest is None:
        if not before or before[-1] != past[-1]:
            return None
        reason = f"run on {before[-1]}, and not on the newest night"
        return MetricSeries(name=subject.name, outcome="missing", reason=reason)
    order = {night: place for place, night in enumerate((*past, newest))}

    def night_of(night: str, *, good: bool) -> NightTrials:
        logs = tuple(math.log(median(run.seconds)) for run in runs[night])
        return NightTrials(night=night, logs=logs, level=judged.level(subject, facts[night], order), good=good)

    comparable = [night for night in before if runs[night][0].place == newest_runs[0].place]
    made = MetricSeries(
        name=subject.name,
        past=tuple(night_of(night, good=judged.good(subject, facts[night], order)) for night in comparable),
        newest=night_of(newest, good=True),
    )
    if comparable or not before:
        return made
    why = describe_differences(newest_runs[0].place, runs[before[-1]][0].place)
    return made.model_copy(update={"outcome": "incomparable", "reason": why})
