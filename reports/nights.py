"""A night is what a trend keeps of one sweep; two nights with the same machine and versions can be compared.

This describes what changed. It is no verdict: the interval of a ratio comes from the trials of two nights and holds
nothing of what differs from night to night, and of many intervals one in twenty misses by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.case import Case
from bench.records import Outcome
from bench.value import Value
from reports.analysis.stats import Estimate, ratio
from reports.cells import Cell
from reports.comparison import direction, identity


class NightCell(Value):
    """The numbers of a cell that a trend needs, or why there are none."""

    case: Case
    outcome: Outcome
    reason: str | None = None
    throughput: Estimate | None = None
    rates: tuple[float, ...] = ()
    """The throughput of each trial that counts."""
    efficiency: Estimate | None = None
    """``None`` too where it is 1 by definition: at the rank count that speed-up starts from."""
    message_bytes: int | None = None
    """Of a collective: the largest message, which its throughput is of."""

    @property
    def key(self) -> str:
        return identity(self.case)


class Night(Value):
    """One sweep; ``href`` leads to its report, relative to the index."""

    sweep: str
    href: str
    started_at: str
    """ISO 8601."""
    finished: bool
    suite: str
    commit: str
    machine: str
    place: dict[str, str]
    """What must be the same before two nights may be compared: fields of the machine and versions, by name."""
    cells: tuple[NightCell, ...]
    own_cost: Estimate | None = None

    def measured(self) -> dict[str, NightCell]:
        """The cells with a number, by key; faults on purpose are no part of a trend."""
        return {cell.key: cell for cell in self.cells if cell.rates and cell.case.fault is None}


class Change(Value):
    """A cell's throughput ÷ the same cell's in an earlier night."""

    cell: NightCell
    ratio: Estimate

    @property
    def told(self) -> str | None:
        """``slower`` or ``faster``; ``None`` where the interval holds 1, or one trial gave none."""
        found = direction(self.ratio)
        return found if found in ("slower", "faster") else None


class Comparison(Value):
    """Two nights that may be compared; the changes that can be told come first, the largest first."""

    before: Night
    after: Night
    changes: tuple[Change, ...]
    """Of the cells that both measured: at least one."""


def keep(cell: Cell) -> NightCell:
    by_definition = cell.efficiency is not None and cell.efficiency.value == 1 and cell.efficiency.low is None
    return NightCell(
        case=cell.case,
        outcome=cell.outcome,
        reason=cell.reason,
        throughput=cell.throughput,
        rates=cell.rates,
        efficiency=None if by_definition else cell.efficiency,
        message_bytes=max((message.message_bytes for message in cell.messages), default=None),
    )


def compare(before: Night, after: Night) -> Comparison | None:
    """``None`` where the places differ, or no cell was measured in both."""
    if before.place != after.place:
        return None
    old, new = before.measured(), after.measured()
    found = [Change(cell=cell, ratio=ratio(cell.rates, old[key].rates)) for key, cell in new.items() if key in old]
    if not found:
        return None
    found.sort(key=lambda change: (change.told is None, -abs(math.log(change.ratio.value))))
    return Comparison(before=before, after=after, changes=tuple(found))


def last_two(nights: Sequence[Night]) -> Comparison | None:
    """Of the newest night that an earlier one may be compared with, and the newest such. ``nights``: oldest first."""
    for number in range(len(nights) - 1, 0, -1):
        for before in reversed(nights[:number]):
            if found := compare(before, nights[number]):
                return found
    return None


def first_to(nights: Sequence[Night], last: Night) -> Comparison | None:
    """With the oldest night that ``last`` may be compared with. ``nights``: oldest first."""
    earlier = nights[: nights.index(last)]
    return next((found for before in earlier if (found := compare(before, last))), None)


def differences(night: Night, reference: Night) -> tuple[str, ...]:
    """``host b, not a``: where a night's machine and versions are other than the reference's."""
    names = dict.fromkeys((*night.place, *reference.place))
    here, there = ({name: one.place.get(name, "none") for name in names} for one in (night, reference))
    return tuple(f"{name} {here[name]}, not {there[name]}" for name in names if here[name] != there[name])
