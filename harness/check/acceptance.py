"""``check --accept``: record an intended change, so that the new level becomes the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from harness.check.ingested_series import place_of_run, round_of, stored_name
from harness.check.sweep_night import sweep_places, sweep_round
from harness.errors import UsageError, suggest_name
from harness.sites.base.running_trial import utc_now
from harness.store.dates import date_problem
from harness.store.ledger import Acceptance, IngestedRun, Ledger
from harness.store.location import store_label
from harness.store.opening import open_store
from harness.store.store import Store
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.places import Place
from reports.regression.subjects import subjects_of
from reports.regression.values import Metric, Status


@dataclass(frozen=True)
class AcceptResult:
    """The acceptance that was recorded."""

    found: Acceptance

    def as_json(self) -> dict[str, Any]:
        return versioned("acceptance", self.found.model_dump())

    def print(self, console: Console) -> None:
        message = f"accepted: {self.found.curve}, from {self.found.since} on: {self.found.because}"
        print_line(console, message)


def accept(store_url: str, pattern: str, because: str | None, suite: str | None = None) -> AcceptResult:
    """Accept the newest level of a curve or of an ingested benchmark, from the first night on which it regressed.

    Args:
        store_url: The store.
        pattern: The name of the curve, or a part of it that no other name has.
        because: The reason, recorded with the acceptance.
        suite: The suite of the curve; default: that of the newest night.

    Raises:
        UsageError: For a missing reason, an empty store, or an unknown or ambiguous name.
    """
    if not because or not because.strip():
        raise UsageError('--accept: needs a reason: --because "…"')
    store = open_store(store_url, create=False, upgrade=True)
    ledger = store.ledger
    series = {**_sweep_curves(store, suite), **_ingested_curves(ledger)}
    if not series:
        raise UsageError(
            f"--accept: store {store_label(store_url)} holds no night; run `python -m harness sweep` first"
        )
    curve = _match_curve(pattern, list(series))
    since = _first_regressed_night(series[curve], ledger.statuses(series[curve].nights))
    acceptance = Acceptance(curve=curve, since=since, because=because.strip(), at=utc_now())
    ledger.accept(acceptance)
    store.close()
    return AcceptResult(acceptance)


@dataclass
class _Curve:
    """A curve at one or several places."""

    nights: list[str]
    """All nights, the oldest first."""
    newest: str
    """The first night of the newest round."""
    series: dict[tuple[str, Metric, Place], list[str]] = field(default_factory=dict)
    """By stored name, metric and place: the nights there, the oldest first."""


def _sweep_curves(store: Store, suite: str | None) -> dict[str, _Curve]:
    ledger = store.ledger
    nights = [night for night in ledger.nights(suite) if not date_problem(night.started_at)]
    if not nights:
        return {}
    of_suite = [night for night in nights if night.suite == nights[-1].suite]
    names = [night.id for night in of_suite]
    places = sweep_places(ledger, of_suite)
    newest = min(sweep_round(of_suite, places).came.values(), key=names.index)
    curves: dict[str, _Curve] = {}
    for subject in subjects_of(store.sweep(names[-1]).plan.cases):
        curve = curves.setdefault(subject.curve, _Curve(names, newest))
        for name, place in places.items():
            curve.series.setdefault((subject.name, subject.metric, place), []).append(name)
    return curves


def _ingested_curves(ledger: Ledger) -> dict[str, _Curve]:
    dates = ledger.ingested_dates()
    nights = [night for night, at in dates.items() if not date_problem(at)][-NIGHTS_KEPT:]
    runs: dict[str, list[IngestedRun]] = {night: [] for night in nights}
    for run in ledger.runs(nights):
        runs[run.night].append(run)
    if not nights:
        return {}
    newest = min(round_of(runs, alone=False).came.values(), key=nights.index)
    curves: dict[str, _Curve] = {}
    for night, of_night in runs.items():
        for benchmark, place in dict.fromkeys((run.benchmark, place_of_run(run)) for run in of_night):
            curve = curves.setdefault(benchmark, _Curve(nights, newest))
            # Verdicts from before places were part of the name are stored by benchmark.
            for name in (stored_name(benchmark, place), benchmark):
                curve.series.setdefault((name, "step", place), []).append(night)
    return curves


def _match_curve(pattern: str, curves: Sequence[str]) -> str:
    matches = [curve for curve in curves if pattern == curve] or [curve for curve in curves if pattern in curve]
    if not matches:
        raise UsageError(f"--accept: the newest night has no curve '{pattern}'{suggest_name(pattern, curves)}")
    if len(matches) > 1:
        raise UsageError(f"--accept: '{pattern}' is part of {len(matches)} curves: {', '.join(matches)}; name one")
    return matches[0]


def _first_regressed_night(curve: _Curve, statuses: Mapping[tuple[str, str, Metric], Status]) -> str:
    """The first of the consecutive nights at one place up to its newest on which the curve regressed; of several
    places the earliest such night. Where it regressed at none, the newest night."""
    order = {night: position for position, night in enumerate(curve.nights)}
    since = order[curve.newest]
    for (name, metric, _), nights in curve.series.items():
        for night in reversed(nights):
            if statuses.get((night, name, metric)) != "regressed":
                break
            since = min(since, order[night])
    return curve.nights[since]
