"""The history of ingested benchmarks that a check judges by, read from a store.

All runs that were ingested under one label are a night; each file is a run. What they become:
:mod:`harness.check.ingested_series`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.check.ingested_series import IngestedNights, IngestedSeries, RunsByNight, place_of_run, round_of
from harness.check.micro_benchmarks import night_label
from harness.store.dates import date_problem
from harness.store.ledger import IngestedRun, Ledger, NightRow
from reports.regression.evidence import AcceptedLevel, EarlierVerdicts, NightFacts
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.places import Place, Round
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries

NIGHTS_AT_ONCE = NIGHTS_KEPT + 1


@dataclass(frozen=True)
class IngestedHistory:
    """The newest ingested night with its series; empty where it is older than the night before the newest sweep.

    Nights of several machines, each with its label, count as one where they came in turn.
    """

    night: str | None = None
    tonight: str | None = None
    """The same, where its runs belong to the newest sweep."""
    series: tuple[IngestedSeries, ...] = ()
    judged: EarlierVerdicts = field(default_factory=EarlierVerdicts)
    runs: int = 0


def gather_ingested(
    ledger: Ledger, sweeps: Sequence[NightRow], newest: NightFacts | None, *, alone: bool = False
) -> IngestedHistory:
    """Read the newest ingested night.

    Tonight's runs are those since the sweep before the newest. Where the night before had some and tonight has none,
    they are missing. So is a place (machine, interpreter, versions) of the night before that has none tonight.

    Args:
        ledger: Of the store.
        sweeps: The sweeps before the newest, the oldest first.
        newest: The newest sweep; ``None`` where the store has none.
        alone: The sweep was named. Where it has micro-benchmarks, these are judged, and other machines' are not missed.
    """
    dates = ledger.ingested_dates()
    misdated = {night: problem for night, at in dates.items() if (problem := date_problem(at))}
    nights = [night for night in dates if night not in misdated]
    own = night_label(newest.night) if newest else ""
    alone = alone and own in nights
    if alone:
        nights, misdated = nights[: nights.index(own) + 1], {}
    unplaceable = tuple(_misdated_series(night, problem) for night, problem in misdated.items())
    if not nights:
        return IngestedHistory(night=next(iter(misdated), None), series=unplaceable)
    history = _read(ledger, nights, alone=alone)
    last = nights[-1]
    started_at = max(run.at for run in history.runs[last])
    tonight = newest is None or not sweeps or started_at >= sweeps[-1].started_at
    if not tonight and len(sweeps) > 1 and started_at < sweeps[-2].started_at:
        return IngestedHistory(series=unplaceable)
    if not tonight:
        history = IngestedNights(history.runs, Round(missing=history.round.came))
    judged = EarlierVerdicts(
        ledger.statuses(list(history.runs)),
        tuple(AcceptedLevel(one.curve, one.since, one.at) for one in ledger.acceptances()),
    )
    came = history.round.came
    return IngestedHistory(
        night=last,
        tonight=last if tonight else None,
        series=(*history.series(judged), *unplaceable),
        judged=judged,
        runs=sum(came.get(place_of_run(run)) == night for night, runs in history.runs.items() for run in runs),
    )


def _misdated_series(night: str, problem: str) -> IngestedSeries:
    name = f"night {night}"
    reason = f"{problem}; its place among the nights is unknown: ingest its files again with --night YYYY-MM-DD"
    series = MetricSeries(name=name, outcome="incomparable", reason=reason)
    return IngestedSeries(Subject(name, "step", name, name, 0), series)


def _read(ledger: Ledger, nights: Sequence[str], *, alone: bool) -> IngestedNights:
    """The newest nights, and more of them until each place of the round has :data:`NIGHTS_KEPT` earlier ones."""
    runs: RunsByNight = {}
    remaining = list(nights)
    incomplete: frozenset[Place] = frozenset()
    while remaining:
        batch, remaining = remaining[-NIGHTS_AT_ONCE:], remaining[:-NIGHTS_AT_ONCE]
        older: dict[str, list[IngestedRun]] = {night: [] for night in batch}
        for run in ledger.runs(batch):
            older[run.night].append(run)
        if incomplete and not incomplete & _night_counts(older).keys():
            break
        runs = {**older, **runs}
        counts = _night_counts(runs)
        incomplete = frozenset(place for place in round_of(runs, alone=alone).came if counts[place] < NIGHTS_AT_ONCE)
        if not incomplete:
            break
    return IngestedNights(runs, round_of(runs, alone=alone))


def _night_counts(runs: RunsByNight) -> Mapping[Place, int]:
    """The number of nights by place."""
    counts: dict[Place, int] = {}
    for of_night in runs.values():
        for place in set(map(place_of_run, of_night)):
            counts[place] = counts.get(place, 0) + 1
    return counts
