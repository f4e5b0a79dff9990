"""``check --accept``: a change that was meant is recorded, and the new level becomes the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.case import Case
from harness.errors import UsageError, nearest
from harness.ledger import Acceptance, Ledger, NightRow
from harness.opening import open_store
from harness.run import now
from reports.verdicts.subjects import subjects_of
from reports.verdicts.values import Metric, Status


def accept(place: str, wanted: str, because: str | None) -> Acceptance:
    """Accept the newest sweep's level of a curve, from the night on which it was first found to have regressed.

    ``wanted``: the curve, or a part of its name that only one curve has. Raises :class:`UsageError`.
    """
    if not because or not because.strip():
        raise UsageError('--accept: say why, for whoever reads it next: --because "…"')
    store = open_store(place, create=False, upgrade=True)
    nights = store.ledger.nights()
    if not nights:
        raise UsageError(f"--accept: store {place} holds no sweep; run `python -m harness sweep` first")
    info = store.sweep(nights[-1].id)
    nights = store.ledger.nights(nights[-1].suite)
    curve = _curve(wanted, info.plan.cases)
    found = Acceptance(curve=curve, since=_since(store.ledger, nights, curve, info.plan.cases),
                       because=because.strip(), at=now())  # fmt: skip
    store.ledger.accept(found)
    store.close()
    return found


def _curve(wanted: str, cases: Sequence[Case]) -> str:
    known = list(dict.fromkeys(case.curve for case in cases))
    alike = [curve for curve in known if wanted == curve] or [curve for curve in known if wanted in curve]
    if not alike:
        raise UsageError(f"--accept: the newest sweep has no curve '{wanted}'{nearest(wanted, known)}")
    if len(alike) > 1:
        raise UsageError(f"--accept: '{wanted}' is part of {len(alike)} curves: {', '.join(alike)}; name one")
    return alike[0]


def _since(ledger: Ledger, nights: Sequence[NightRow], curve: str, cases: Sequence[Case]) -> str:
    """The first of the nights in a row, up to the newest, on which the curve had regressed; else the newest."""
    series = {(subject.name, subject.metric) for subject in subjects_of(cases) if subject.curve == curve}
    statuses = ledger.statuses([night.id for night in nights])
    since = nights[-1].id
    for night in reversed(nights):
        if not _regressed(night.id, series, statuses):
            break
        since = night.id
    return since


def _regressed(night: str, series: set[tuple[str, Metric]], statuses: Mapping[tuple[str, str, Metric], Status]) -> bool:
    return any(statuses.get((night, name, metric)) == "regressed" for name, metric in series)
