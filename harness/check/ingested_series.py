"""From ingested runs to series: one benchmark at one place (machine, interpreter, versions) over the nights.

Pure functions. While series are judged and their verdicts stored, a series is named by its benchmark and a digest of
its place, so that its name does not depend on which other places there are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from harness.planning.git import SHORT_COMMIT_LENGTH
from harness.store.dates import parse_moment
from harness.store.ledger import IngestedRun
from reports.analysis.label_order import natural_key
from reports.regression.evidence import EarlierVerdicts, NightFacts, describe_differences
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.places import Place, PlacedNight, Round, newest_round, place_digest, place_labels, place_of
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries, NightTrials

RunsByNight = Mapping[str, Sequence[IngestedRun]]


@dataclass(frozen=True)
class IngestedSeries:
    """One benchmark at one place over the nights."""

    subject: Subject
    """Its key is the name of the benchmark."""
    series: MetricSeries
    place: Place = ()
    label: str = ""
    """What tells its place from the others of the night; empty where there is one."""
    past: tuple[NightFacts, ...] = ()
    """Commits of its earlier nights, without numbers."""
    commit: str | None = None
    """The commit that its newest runs measured; ``None`` where they measured several, or none is known."""
    changed_files: bool = False
    """Whether files differed from that commit."""


def place_of_run(run: IngestedRun) -> Place:
    """Machine, interpreter and versions of a run."""
    return place_of(run.place)


def stored_name(benchmark: str, place: Place) -> str:
    """The name of a series in the store's table of verdicts."""
    return f"{benchmark} @ {place_digest(place)}"


def round_of(runs: RunsByNight, *, alone: bool) -> Round:
    """The places of the newest night and of those that came in turn with it.

    Args:
        runs: By night, the oldest first.
        alone: Only nights that have a place of the newest night count, where there are any.
    """
    placed = [
        PlacedNight(night, frozenset(map(place_of_run, of_night)), _began_s(of_night))
        for night, of_night in runs.items()
    ]
    if alone:
        alike = [night for night in placed if night.places & placed[-1].places]
        placed = alike if len(alike) > 1 else placed
    return newest_round(placed)


def _began_s(runs: Sequence[IngestedRun]) -> float:
    return min(moment.timestamp() for run in runs if (moment := parse_moment(run.at)))


@dataclass(frozen=True)
class IngestedNights:
    """Nights with their runs, the oldest first, and the places of the newest round."""

    runs: RunsByNight
    round: Round

    def series(self, judged: EarlierVerdicts) -> Iterator[IngestedSeries]:
        """By benchmark, then by place."""
        labels = place_labels([*self.round.came, *self.round.missing])
        places = sorted(labels, key=lambda place: natural_key(labels[place]))
        for benchmark in sorted({benchmark for benchmark, _ in self._by_series}):
            for place in places:
                item = self._series(benchmark, place, judged)
                if item is not None:
                    yield replace(item, label=labels[place])

    @cached_property
    def _by_series(self) -> Mapping[tuple[str, Place], RunsByNight]:
        by_series: dict[tuple[str, Place], dict[str, list[IngestedRun]]] = defaultdict(dict)
        for night, of_night in self.runs.items():
            for run in of_night:
                by_series[run.benchmark, place_of_run(run)].setdefault(night, []).append(run)
        return by_series

    @cached_property
    def _nights_at(self) -> Mapping[Place, Sequence[str]]:
        nights: dict[Place, dict[str, None]] = defaultdict(dict)
        for night, of_night in self.runs.items():
            for run in of_night:
                nights[place_of_run(run)][night] = None
        return {place: tuple(there) for place, there in nights.items()}

    @cached_property
    def _order(self) -> Mapping[str, int]:
        return {night: position for position, night in enumerate(self.runs)}

    def _series(self, benchmark: str, place: Place, judged: EarlierVerdicts) -> IngestedSeries | None:
        """``None`` where the last earlier night at this place did not run the benchmark either."""
        subject = Subject(stored_name(benchmark, place), "step", benchmark, benchmark, 0)
        runs = self._by_series.get((benchmark, place), {})
        newest = self.round.came.get(place)
        if newest is not None and newest in runs:
            return self._measured(subject, place, runs, newest, judged)
        before = self._nights_at[self.round.replaced.get(place, place)]
        last = before[-1] if newest is None else next((night for night in reversed(before) if night != newest), None)
        if last is None or not self._ran_before(benchmark, place, last):
            return None
        where = "this place has no run" if newest is None else "not"
        reason = f"run on {last}, and {where} on the newest night"
        return IngestedSeries(subject, MetricSeries(name=subject.name, outcome="missing", reason=reason), place)

    def _ran_before(self, benchmark: str, place: Place, night: str | None = None) -> bool:
        """Whether a benchmark was run at a place, or at the one that it replaced, on that night or on any."""
        nights = self._by_series.get((benchmark, self.round.replaced.get(place, place)), {})
        return bool(nights) if night is None else night in nights

    def _measured(
        self, subject: Subject, place: Place, runs: RunsByNight, newest: str, judged: EarlierVerdicts
    ) -> IngestedSeries:
        facts = {night: _facts(night, of_night) for night, of_night in runs.items()}
        past = [night for night in runs if self._order[night] < self._order[newest]][-NIGHTS_KEPT:]

        def trials(night: str, *, good: bool) -> NightTrials:
            logs = tuple(math.log(median(run.seconds)) for run in runs[night])
            level = judged.level(subject, facts[night], self._order)
            return NightTrials(night=night, logs=logs, level=level, good=good)

        series = MetricSeries(
            name=subject.name,
            past=tuple(trials(night, good=judged.good(subject, facts[night], self._order)) for night in past),
            newest=trials(newest, good=True),
        )
        if place in self.round.replaced and self._ran_before(subject.key, place):
            why = describe_differences(dict(place), dict(self.round.replaced[place]))
            series = series.model_copy(update={"outcome": "incomparable", "reason": why})
        return IngestedSeries(
            subject,
            series,
            place,
            past=tuple(facts[night] for night in past),
            commit=_common_commit(runs[newest]),
            changed_files=any(run.changed_files for run in runs[newest]),
        )


def _facts(night: str, runs: Sequence[IngestedRun]) -> NightFacts:
    return NightFacts(
        night=night,
        started_at=max(run.at for run in runs),
        place=runs[0].place,
        commit=None if any(run.changed_files for run in runs) else _common_commit(runs),
        numbers={},
        settings={},
    )


def _common_commit(runs: Sequence[IngestedRun]) -> str | None:
    """The commit that all runs measured; ``None`` where they measured several."""
    commits = {run.commit[:SHORT_COMMIT_LENGTH] if run.commit else None for run in runs}
    return next(iter(commits)) if len(commits) == 1 else None
