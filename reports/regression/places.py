"""Places (machine, interpreter, versions): which of them came tonight, which are missing, and what they are called.

Numbers of one place are one series. A night need not be one place: a matrix of interpreters, or the merged stores of
several machines, give several. Pure functions of names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

Place = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""
PERIOD_NIGHTS = 6
"""Nights whose distances say how often nights are."""


def place_of(fields: Mapping[str, str]) -> Place:
    """The place as a value that can be a key."""
    return tuple(sorted(fields.items()))


def place_digest(place: Place) -> str:
    """Eight hexadecimal digits, the same in every store."""
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class PlacedNight:
    """A night, and the places that its numbers come from."""

    night: str
    places: frozenset[Place]
    at_s: float
    """When it began, in seconds of any clock."""


@dataclass(frozen=True)
class Round:
    """The places of the newest night, and of other machines' nights at the same time."""

    came: Mapping[Place, str] = field(default_factory=dict)
    """By place: its newest night."""
    replaced: Mapping[Place, Place] = field(default_factory=dict)
    """A place that came for the first time → the absent one that it resembles most. An upgrade is such a pair."""
    missing: Mapping[Place, str] = field(default_factory=dict)
    """By place that came in the round before, and not in this one: its last night."""


def newest_round(nights: Sequence[PlacedNight], *, exclusive: bool = False) -> Round:
    """The round that ends with the newest night.

    Several machines have nights of their own, each with its period: the usual time between them. Another place came in
    this round where its last night is less than half a period ago, and is missing where it is not and was not missed
    before. One that has its nights more rarely is due after its own period. A place that is new stands for the one that
    it resembles most of those that came lately, so that the night before an upgrade does not count as tonight's.

    Args:
        nights: The oldest first.
        exclusive: The places are conditions of one machine, of which each night has one: how often the newest night's
            occurred does not count.
    """
    if not nights:
        return Round()
    came, previous = _came(nights, exclusive=exclusive)
    if previous is None:
        return Round(came)
    before, since = nights[: previous + 1], nights[previous + 1 :]
    expected, _ = _came(before, exclusive=exclusive)
    expected = {**expected, **_last_nights(since)}
    absent = {place: night for place, night in expected.items() if place not in came}
    seen = _last_nights(before)
    replaced = _successors([place for place in came if place not in seen], absent.keys())
    return Round(came, replaced, {place: night for place, night in absent.items() if place not in replaced.values()})


def _came(nights: Sequence[PlacedNight], *, exclusive: bool) -> tuple[dict[Place, str], int | None]:
    """The places of the round that ends with the last night, each with its night, and the position of the night before
    at one of the last night's places; ``None`` where there is none."""
    *earlier, newest = nights
    history: dict[Place, list[PlacedNight]] = {}
    for night in earlier:
        for place in night.places:
            history.setdefault(place, []).append(night)
    known = newest.places & history.keys()
    lineage = known or frozenset(_successors(newest.places, _last_places(earlier)).values())
    same = [position for position, night in enumerate(earlier) if night.places & lineage]
    came = dict.fromkeys(newest.places, newest.night)
    if not same:
        return came, None
    previous = same[-1]
    period_s = _period_s([*(earlier[position] for position in same), newest])
    for place, there in history.items():
        own_s = _period_s(there) if len(there) > 1 else period_s
        usual_s = min(period_s, own_s) if exclusive else period_s
        due_s = max(own_s - usual_s / 2, usual_s / 2)
        in_time = newest.at_s - there[-1].at_s < due_s
        if place not in newest.places and in_time and (known or there[-1].at_s > earlier[previous].at_s):
            came[place] = there[-1].night
    return came, previous


def _last_nights(nights: Sequence[PlacedNight]) -> dict[Place, str]:
    return {place: night.night for night in nights for place in night.places}


def place_labels(places: Iterable[Place]) -> dict[Place, str]:
    """``python 3.12.1`` by place: as few fields as tell these places apart; empty for a single place."""
    distinct = list(dict.fromkeys(places))
    fields = {place: dict(place) for place in distinct}
    names = [name for name in _by_weight(fields.values()) if len({known.get(name) for known in fields.values()}) > 1]
    chosen: list[str] = []
    groups = 1
    for name in names:
        if groups == len(distinct):
            break
        told_apart = len({tuple(known.get(one) for one in (*chosen, name)) for known in fields.values()})
        if told_apart > groups:
            chosen, groups = [*chosen, name], told_apart
    return {
        place: ", ".join(f"{name} {known.get(name, 'unknown')}" for name in chosen) for place, known in fields.items()
    }


def _by_weight(fields: Iterable[Mapping[str, str]]) -> list[str]:
    """The names of all fields: the machine and the interpreter first."""
    names = dict.fromkeys(name for known in fields for name in known)
    first = [name for name in ("host", "python", "implementation", "cpu", "GPUs") if name in names]
    return [*first, *(name for name in names if name not in first)]


def _last_places(nights: Sequence[PlacedNight]) -> frozenset[Place]:
    """The places of the last night, and of the nights since one of its places came before."""
    if not nights:
        return frozenset()
    *earlier, last = nights
    end = max((position for position, night in enumerate(earlier) if night.places & last.places), default=None)
    since = [last] if end is None else nights[end + 1 :]
    return frozenset(place for night in since for place in night.places)


def _period_s(nights: Sequence[PlacedNight]) -> float:
    """The median time between the last nights."""
    starts = [night.at_s for night in nights[-PERIOD_NIGHTS - 1 :]]
    return median(later - before for before, later in pairwise(starts))


def _successors(new: Iterable[Place], absent: Iterable[Place]) -> dict[Place, Place]:
    """Each new place with the absent one that differs from it in the fewest fields; each absent one at most once."""
    pairs = sorted((_difference_count(here, there), here, there) for here in new for there in absent)
    found: dict[Place, Place] = {}
    for _, here, there in pairs:
        if here not in found and there not in found.values():
            found[here] = there
    return found


def _difference_count(here: Place, there: Place) -> int:
    first, second = dict(here), dict(there)
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())
