"""The history of ingested benchmarks: each file is a run, all runs with one label are a night."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.check.source_trees import SHORT_COMMIT_LENGTH
from harness.store.ledger import IngestedRun, Ledger, NightRow
from reports.regression.evidence import AcceptedLevel, EarlierVerdicts, NightFacts, describe_differences
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries, NightTrials

RunsByNight = Mapping[str, Sequence[IngestedRun]]
"""By night."""


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
        night: _facts(night, [one for by_night in runs.values() for one in by_night.get(night, ())]) for night in nights
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
        (subject, _series(subject, runs[subject.name], facts, past, last, judged))
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


def _facts(night: str, runs: Sequence[IngestedRun]) -> NightFacts:
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


def _series(
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
