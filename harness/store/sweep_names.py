"""What names a sweep in every command: its id, ``latest``, ``latest~1``, a tag, or the start of its id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from bench.core.text import one_line
from harness.errors import StoreError, suggest_name
from harness.store.dates import date_problem
from harness.store.labels import LATEST

BEFORE_LATEST = re.compile(rf"{LATEST}(?:~(?P<back>\d{{1,6}}))?")
MAX_NAMED = 5
"""Candidates that a message names."""
SHOWN_LENGTH = 100


class KnownSweep(NamedTuple):
    """A sweep of a store, and what it may be named by."""

    id: str
    started_at: str
    """ISO 8601."""
    finished_at: str | None = None
    tags: tuple[str, ...] = ()


def resolve_sweep(name: str, sweeps: Sequence[KnownSweep], label: str) -> str:
    """The id of the sweep that a name means (pure).

    An id comes before a tag, and a tag before the start of an id. ``latest`` is the last sweep that is not dated in the
    future, or before clocks were set, if there is one; ``latest~1`` the one before it.

    Args:
        name: As it was typed.
        sweeps: Those of the store, the oldest first.
        label: The store's name, for messages.

    Raises:
        StoreError: It means none of them, or several.
    """
    if not sweeps:
        raise StoreError(f"store {label} holds no sweep yet; run `python -m harness sweep` first")
    candidates, how = _candidates(name, sweeps)
    shown = one_line(name, SHOWN_LENGTH)
    if not candidates:
        raise StoreError(f"store {label} has no sweep '{shown}'{_suggestion(name, sweeps)}")
    if len(candidates) > 1:
        newest_first = list(reversed(candidates))
        more = f" and {len(candidates) - MAX_NAMED} more" if len(candidates) > MAX_NAMED else ""
        raise StoreError(
            f"store {label}: '{shown}' {how} {len(candidates)} sweeps: {', '.join(newest_first[:MAX_NAMED])}{more}; "
            "name one by its id"
        )
    return candidates[0]


def is_exact(name: str, sweeps: Sequence[KnownSweep]) -> bool:
    """Whether a name is an id, ``latest…`` or a tag, and not merely the start of an id (pure)."""
    return bool(BEFORE_LATEST.fullmatch(name)) or any(name == sweep.id or name in sweep.tags for sweep in sweeps)


def _candidates(name: str, sweeps: Sequence[KnownSweep]) -> tuple[list[str], str]:
    """The sweeps that a name may mean, the oldest first, and how it names them."""
    if match := BEFORE_LATEST.fullmatch(name):
        dated = [sweep.id for sweep in sweeps if not date_problem(sweep.started_at)] or [sweep.id for sweep in sweeps]
        back = int(match["back"] or 0)
        return ([dated[-1 - back]] if back < len(dated) else []), ""
    if any(sweep.id == name for sweep in sweeps):
        return [name], ""
    if tagged := [sweep.id for sweep in sweeps if name in sweep.tags]:
        return tagged, "is a tag of"
    return [sweep.id for sweep in sweeps if name and sweep.id.startswith(name)], "is the start of"


def _suggestion(name: str, sweeps: Sequence[KnownSweep]) -> str:
    if BEFORE_LATEST.fullmatch(name):
        return f": it holds {len(sweeps)}"
    # Of thousands of ids only the newest are of use.
    tags = [tag for sweep in sweeps for tag in sweep.tags]
    return suggest_name(name, {*tags, *(sweep.id for sweep in sweeps[-MAX_NAMED:])})
