"""A night is what a trend keeps of one sweep; two nights with the same machine and versions can be compared.

This describes what changed. It is no verdict: the interval of a ratio comes from the trials of two nights and holds
nothing of what differs from night to night, and of many intervals one in twenty misses by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome
from reports.analysis.cells import Cell
from reports.analysis.comparison import comparison_key, direction
from reports.analysis.stats import Estimate, ratio


class NightCell(FrozenModel):
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
        return comparison_key(self.case)


class Night(FrozenModel):
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


class NightChange(FrozenModel):
    """A cell's throughput ÷ the same cell's in an earlier night."""

    cell: NightCell
    ratio: Estimate

    @property
    def clear_direction(self) -> str | None:
        """``slower`` or ``faster``; ``None`` where the interval holds 1, or one trial gave none."""
        found = direction(self.ratio)
        return found if found in ("slower", "faster") else None


class NightComparison(FrozenModel):
    """Two nights that may be compared; the changes that can be told come first, the largest first."""

    before: Night
    after: Night
    changes: tuple[NightChange, ...]
    """Of the cells that both measured: at least one."""


def night_cell(cell: Cell) -> NightCell:
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


def compare_nights(before: Night, after: Night) -> NightComparison | None:
    """``None`` where the places differ, or no cell was measured in both."""
    if before.place != after.place:
        return None
    old, new = before.measured(), after.measured()
    found = [NightChange(cell=cell, ratio=ratio(cell.rates, old[key].rates)) for key, cell in new.items() if key in old]
    if not found:
        return None
    found.sort(key=lambda change: (change.clear_direction is None, -abs(math.log(change.ratio.value))))
    return NightComparison(before=before, after=after, changes=tuple(found))


def latest_comparison(nights: Sequence[Night]) -> NightComparison | None:
    """Of the newest night that an earlier one may be compared with, and the newest such. ``nights``: oldest first."""
    for number in range(len(nights) - 1, 0, -1):
        for before in reversed(nights[:number]):
            if found := compare_nights(before, nights[number]):
                return found
    return None


def comparison_with_oldest(nights: Sequence[Night], last: Night) -> NightComparison | None:
    """With the oldest night that ``last`` may be compared with. ``nights``: oldest first."""
    earlier = nights[: nights.index(last)]
    return next((found for before in earlier if (found := compare_nights(before, last))), None)


def environment_differences(night: Night, reference: Night) -> tuple[str, ...]:
    """``host b, not a``: where a night's machine and versions are other than the reference's."""
    names = dict.fromkeys((*night.place, *reference.place))
    values, reference_values = (
        {name: either.place.get(name, "none") for name in names} for either in (night, reference)
    )
    return tuple(
        f"{name} {values[name]}, not {reference_values[name]}"
        for name in names
        if values[name] != reference_values[name]
    )
