"""``check --accept``: a change that was meant is recorded, and the new level becomes the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from harness.errors import UsageError, nearest
from harness.run import now
from harness.storage.ledger import Acceptance, Ledger
from harness.storage.opening import open_store
from harness.storage.store import Store
from reports.verdicts.subjects import subjects_of
from reports.verdicts.values import Metric, Status


@dataclass(frozen=True)
class Accepting:
    """What was recorded."""

    found: Acceptance

    def as_json(self) -> dict[str, Any]:
        return self.found.model_dump()

    def print(self, console: Console) -> None:
        told = f"accepted: {self.found.curve}, from {self.found.since} on: {self.found.because}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def accept(place: str, wanted: str, because: str | None, suite: str | None = None) -> Accepting:
    """Accept the newest level of a curve, or of an ingested benchmark, from the night on which it was first found to
    have regressed.

    ``wanted``: its name, or a part that no other has. Raises :class:`UsageError`.
    """
    if not because or not because.strip():
        raise UsageError('--accept: say why, for whoever reads it next: --because "…"')
    store = open_store(place, create=False, upgrade=True)
    ledger = store.ledger
    series = {**_of_sweep(store, suite), **_of_ingested(ledger)}
    if not series:
        raise UsageError(f"--accept: store {place} holds no night; run `python -m harness sweep` first")
    curve = _curve(wanted, list(series))
    names, nights = series[curve]
    since = _since(nights, names, ledger.statuses(nights))
    found = Acceptance(curve=curve, since=since, because=because.strip(), at=now())
    ledger.accept(found)
    store.close()
    return Accepting(found)


Known = dict[str, tuple[set[tuple[str, Metric]], list[str]]]
"""By curve: its series, and the nights it is measured on, the oldest first."""


def _of_sweep(store: Store, suite: str | None) -> Known:
    nights = store.ledger.nights(suite)
    if not nights:
        return {}
    names = [night.id for night in nights if night.suite == nights[-1].suite]
    found: Known = {}
    for subject in subjects_of(store.sweep(names[-1]).plan.cases):
        found.setdefault(subject.curve, (set(), names))[0].add((subject.name, subject.metric))
    return found


def _of_ingested(ledger: Ledger) -> Known:
    nights = ledger.ingested_nights()
    return {run.benchmark: ({(run.benchmark, "step")}, nights) for run in ledger.runs(nights[-1:])}


def _curve(wanted: str, known: Sequence[str]) -> str:
    alike = [curve for curve in known if wanted == curve] or [curve for curve in known if wanted in curve]
    if not alike:
        raise UsageError(f"--accept: the newest night has no curve '{wanted}'{nearest(wanted, known)}")
    if len(alike) > 1:
        raise UsageError(f"--accept: '{wanted}' is part of {len(alike)} curves: {', '.join(alike)}; name one")
    return alike[0]


def _since(
    nights: Sequence[str], series: set[tuple[str, Metric]], statuses: Mapping[tuple[str, str, Metric], Status]
) -> str:
    """The first of the nights in a row, up to the newest, on which the curve had regressed; else the newest."""
    since = nights[-1]
    for night in reversed(nights):
        if not any(statuses.get((night, name, metric)) == "regressed" for name, metric in series):
            break
        since = night
    return since
