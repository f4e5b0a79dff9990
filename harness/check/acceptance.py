"""``check --accept``: record an intended change, so that the new level becomes the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from harness.errors import UsageError, suggest_name
from harness.sites.base.running_trial import utc_now
from harness.store.ledger import Acceptance, Ledger
from harness.store.opening import open_store
from harness.store.store import Store
from reports.formats.documents import versioned
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
        console.print(message, markup=False, highlight=False, soft_wrap=True)


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
        raise UsageError(f"--accept: store {store_url} holds no night; run `python -m harness sweep` first")
    curve = _match_curve(pattern, list(series))
    names, nights = series[curve]
    since = _first_regressed_night(nights, names, ledger.statuses(nights))
    acceptance = Acceptance(curve=curve, since=since, because=because.strip(), at=utc_now())
    ledger.accept(acceptance)
    store.close()
    return AcceptResult(acceptance)


SeriesByCurve = dict[str, tuple[set[tuple[str, Metric]], list[str]]]
"""By curve: its series, and the nights on which it was measured, the oldest first."""


def _sweep_curves(store: Store, suite: str | None) -> SeriesByCurve:
    nights = store.ledger.nights(suite)
    if not nights:
        return {}
    names = [night.id for night in nights if night.suite == nights[-1].suite]
    curves: SeriesByCurve = {}
    for subject in subjects_of(store.sweep(names[-1]).plan.cases):
        curves.setdefault(subject.curve, (set(), names))[0].add((subject.name, subject.metric))
    return curves


def _ingested_curves(ledger: Ledger) -> SeriesByCurve:
    nights = ledger.ingested_nights()
    return {run.benchmark: ({(run.benchmark, "step")}, nights) for run in ledger.runs(nights[-1:])}


def _match_curve(pattern: str, curves: Sequence[str]) -> str:
    matches = [curve for curve in curves if pattern == curve] or [curve for curve in curves if pattern in curve]
    if not matches:
        raise UsageError(f"--accept: the newest night has no curve '{pattern}'{suggest_name(pattern, curves)}")
    if len(matches) > 1:
        raise UsageError(f"--accept: '{pattern}' is part of {len(matches)} curves: {', '.join(matches)}; name one")
    return matches[0]


def _first_regressed_night(
    nights: Sequence[str], series: set[tuple[str, Metric]], statuses: Mapping[tuple[str, str, Metric], Status]
) -> str:
    """The first of the consecutive nights up to the newest on which the curve regressed; else the newest."""
    since = nights[-1]
    for night in reversed(nights):
        if not any(statuses.get((night, name, metric)) == "regressed" for name, metric in series):
            break
        since = night
    return since
