"""The sweeps of a night: the newest one, and those of other places (machine, versions) that came in turn with it.

A store may hold the sweeps of several machines. Each place has a history of its own; one of which the night has no
sweep, though the night before had one, is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.check.history import SweepHistory, SweepSelection, gather_sweep, misdated_sweeps
from harness.store.dates import seconds_of
from harness.store.ledger import Ledger, NightRow
from harness.store.store import Store
from reports.regression.judge import JudgedSeries, judge_series
from reports.regression.places import Place, PlacedNight, Round, newest_round, place_labels, place_of
from reports.regression.rule import RULE
from reports.regression.subjects import subjects_of
from reports.regression.values import MetricSeries

log = logging.getLogger("scaling_harness")


@dataclass(frozen=True)
class PlacedHistory:
    """The history of one place, and what tells the place from the others of the night; empty where there is one."""

    history: SweepHistory
    label: str = ""


@dataclass(frozen=True)
class SweepNight:
    """The newest sweep first, then those of other places, the newest first."""

    histories: tuple[PlacedHistory, ...]
    missing: tuple[JudgedSeries, ...] = ()
    """The cells of places that have no sweep."""

    @property
    def newest(self) -> SweepHistory:
        return self.histories[0].history


def gather_night(store: Store, which: SweepSelection) -> SweepNight:
    """Read the histories of a night's sweeps; of one sweep alone where it, or what to compare it with, is named.

    Raises:
        UsageError: Where there is nothing to judge.
        StoreError: Where the store cannot be read.
    """
    newest = gather_sweep(store, which)
    if which.sweep is not None or which.baseline is not None:
        return SweepNight((PlacedHistory(newest),))
    for sweep, problem in misdated_sweeps(store).items():
        log.warning("sweep %s is %s; it is left out", sweep, problem)
    through = {newest.info.id, *(night.id for night in newest.earlier)}
    nights = [night for night in store.ledger.nights(newest.info.suite.name) if night.id in through]
    places = sweep_places(store.ledger, nights)
    found = sweep_round(nights, places)
    labels = place_labels([*found.came, *found.missing])
    others = [night for place, night in found.came.items() if night != newest.info.id]
    return SweepNight(
        histories=(
            PlacedHistory(newest, labels[places[newest.info.id]]),
            *(
                PlacedHistory(gather_sweep(store, SweepSelection(which.suite, sweep=night)), labels[places[night]])
                for night in sorted(others, key=list(places).index, reverse=True)
            ),
        ),
        missing=tuple(
            at_place(member, labels[place])
            for place, night in found.missing.items()
            for member in _missing_cells(store, night)
        ),
    )


def sweep_places(ledger: Ledger, nights: Sequence[NightRow]) -> dict[str, Place]:
    """The place of each sweep, by id."""
    environments = ledger.environments()
    return {night.id: place_of(environments[night.environment].place) for night in nights}


def sweep_round(nights: Sequence[NightRow], places: Mapping[str, Place]) -> Round:
    """The places of the newest sweep and of those that came in turn with it. ``nights``: the oldest first."""
    return newest_round(
        [PlacedNight(night.id, frozenset((places[night.id],)), seconds_of(night.started_at)) for night in nights]
    )


def at_place(member: JudgedSeries, label: str) -> JudgedSeries:
    """The same series under a name that tells its place."""
    subject, series, verdict = member
    placed = subject.at_place(label)
    return (
        placed,
        series.model_copy(update={"name": placed.name}),
        verdict.model_copy(update={"name": placed.name, "place": label}),
    )


def _missing_cells(store: Store, night: str) -> list[JudgedSeries]:
    """The step times that a sweep measured, each as missing."""
    reason = f"measured by {night}; no sweep of the newest night ran at this place"
    measured = {key for _, key, _, name, _ in store.ledger.measures([night]) if name == "step_s"}
    subjects = [
        subject
        for subject in subjects_of(store.sweep(night).plan.cases)
        if subject.metric == "step" and subject.key in measured
    ]
    return judge_series(
        [(subject, MetricSeries(name=subject.name, outcome="missing", reason=reason)) for subject in subjects], RULE
    )
