"""Which sweeps are deleted, and which are kept with the reason (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from bench.core.frozen_model import FrozenModel
from harness.archive.listing import SweepEntry
from harness.errors import UsageError
from harness.store.dates import date_problem, parse_moment
from harness.store.sweep_names import KnownSweep


class KeptSweep(FrozenModel):
    """A sweep that is not deleted."""

    sweep: str
    reason: str


def protection(sweep: KnownSweep, baselines: Mapping[str, int]) -> str | None:
    """Why a sweep is deleted only where it is named; ``None``: it is not protected.

    Args:
        sweep: It.
        baselines: The number of accepted changes that begin with a sweep, by sweep.
    """
    if sweep.tags:
        return f"is tagged {', '.join(sweep.tags)}"
    if sweep.id in baselines:
        return "is the baseline of a change that was accepted (`check --accept`)"
    return None


def check_named(name: str, sweep: KnownSweep, baselines: Mapping[str, int]) -> None:
    """Refuse to delete a protected sweep that is named neither by its id nor by its tag. Raises :class:`UsageError`."""
    reason = protection(sweep, baselines)
    if reason is not None and name not in (sweep.id, *sweep.tags):
        raise UsageError(f"'{name}' is sweep {sweep.id}, which {reason}: name it by its id to delete it")


def running_problem(entry: SweepEntry, host: str | None, here: str, *, unfinished: bool) -> str | None:
    """Why a sweep can't be deleted now: it runs, or may do so.

    Args:
        entry: It.
        host: The machine that it began on; ``None``: unknown.
        here: This one.
        unfinished: Whether one that has not ended on another machine is deleted all the same.
    """
    if entry.state == "running":
        return "is running; wait for its end, or interrupt it"
    if entry.state == "unfinished" and host != here and not unfinished:
        place = host or "an unknown machine"
        return f"has not ended, and may still run on {place}: delete it there, or add --unfinished"
    return None


def choose_prunable(
    sweeps: Sequence[KnownSweep],
    baselines: Mapping[str, int],
    now: datetime,
    keep: int | None = None,
    older_than: timedelta | None = None,
    blocked: Mapping[str, str] | None = None,
) -> tuple[list[str], list[KeptSweep]]:
    """The sweeps that ``prune`` deletes, the oldest first, and those that it would but for a reason.

    With both limits a sweep goes only where both say so.

    Args:
        sweeps: Those of a store, the oldest first.
        baselines: As in :func:`protection`.
        now: The time.
        keep: The newest so many stay.
        older_than: Only those that began longer ago go.
        blocked: Why some can't be deleted now (:func:`running_problem`), by sweep.
    """
    newest: Collection[str] = [sweep.id for sweep in sweeps][-keep:] if keep else []
    gone: list[str] = []
    kept: list[KeptSweep] = []
    for sweep in sweeps:
        moment = parse_moment(sweep.started_at)
        young = older_than is not None and moment is not None and moment > now - older_than
        if sweep.id in newest or young:
            continue
        misdated = date_problem(sweep.started_at, now)
        reason = f"is {misdated}" if misdated else protection(sweep, baselines) or (blocked or {}).get(sweep.id)
        if reason:
            kept.append(KeptSweep(sweep=sweep.id, reason=reason))
        else:
            gone.append(sweep.id)
    return gone, kept
