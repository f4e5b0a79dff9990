"""What changed between two sweeps, cell by cell. It describes and gives no verdict.

The interval of a ratio comes from the trials of two sweeps. It does not include what varies from night to night, and of
many 95 % intervals one in twenty misses by chance.

A night is the part of a sweep that trends keep; two nights with the same machine and versions can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome
from reports.analysis.case_titles import CaseFinding
from reports.analysis.cells import Cell, CellLabels
from reports.analysis.stats import Estimate, is_baseline, ratio

Direction = Literal["faster", "slower", "unclear", "unknown"]
"""``unclear``: the interval includes 1; ``unknown``: there is no interval."""


def comparison_key(case: Case) -> str:
    """The case, the data that it read, and the source of its program and plugins, where no commit says what it was:
    cases that differ in any are not compared."""
    sources = (case.data,) if case.compared_by_commit else (case.data, case.program, *case.plugins)
    digests = [source.digest for source in sources if source is not None]
    return " ".join([case.key, *digests])


def direction(ratio: Estimate | None) -> Direction:
    """What the interval of a ratio of throughputs shows."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return "unknown"
    if ratio.low > 1:
        return "faster"
    return "slower" if ratio.high < 1 else "unclear"


class Change(FrozenModel):
    """One case in both sweeps; without a ratio :attr:`reason` says why."""

    before: CaseFinding
    after: CaseFinding
    ratio: Estimate | None
    """Throughput of the later sweep ÷ that of the first, with Welch's interval over trials."""
    reason: str | None = None

    @property
    def direction(self) -> Direction:
        """See :func:`direction`."""
        return direction(self.ratio)


class Comparison(FrozenModel):
    """The cases that two sweeps share. ``across``: each sweep has one backend, and the backends are compared."""

    first: str
    other: str
    changes: tuple[Change, ...]
    across: bool = False
    only_first: int = 0
    only_other: int = 0


def compare(first: str, before: Sequence[Cell], other: str, after: Sequence[Cell]) -> Comparison:
    """Compare the cells of two sweeps by case.

    Where no case is in both sweeps and each ran one backend only, the two backends are compared.

    Args:
        first: the label of the first sweep.
        before: its cells.
        other: the label of the later sweep.
        after: its cells.
    """
    by_case = _pairs(before, after, lambda cell: comparison_key(cell.case))
    if by_case or not _one_backend(before) or not _one_backend(after):
        return _comparison(first, other, by_case, before, after, across=False)
    return _comparison(first, other, _pairs(before, after, _without_backend), before, after, across=True)


def labelled(cells: Sequence[Cell], label: str) -> tuple[Cell, ...]:
    """The same cells with the label of their sweep, which separates their curves from those of other sweeps."""
    return tuple(cell.with_case(label=label) for cell in cells)


def _pairs(before: Sequence[Cell], after: Sequence[Cell], key: Callable[[Cell], str]) -> list[tuple[Cell, Cell]]:
    first_by_key: Mapping[str, Cell] = {key(cell): cell for cell in before}
    return [(first_by_key[key(cell)], cell) for cell in after if key(cell) in first_by_key]


def _without_backend(cell: Cell) -> str:
    plugins = tuple(plugin for plugin in cell.case.plugins if plugin.kind != "backend")
    plain = {"backend": "any", "transport": "any", "backend_options": {}, "env": {}, "plugins": plugins}
    return comparison_key(cell.case.model_copy(update=plain))


def _one_backend(cells: Sequence[Cell]) -> bool:
    exchanges = {
        (cell.case.backend, cell.case.transport, str(cell.case.backend_options), str(cell.case.env)) for cell in cells
    }
    return len(exchanges) == 1


def _comparison(
    first: str,
    other: str,
    pairs: Sequence[tuple[Cell, Cell]],
    before: Sequence[Cell],
    after: Sequence[Cell],
    *,
    across: bool,
) -> Comparison:
    return Comparison(
        first=first,
        other=other,
        changes=tuple(_change(earlier, later) for earlier, later in pairs),
        across=across,
        only_first=len(before) - len(pairs),
        only_other=len(after) - len(pairs),
    )


def _change(before: Cell, after: Cell) -> Change:
    change, reason = None, None
    if before.rates and after.rates:
        change = ratio(after.rates, before.rates)
    else:
        missing = before if not before.rates else after
        reason = f"{'the first' if missing is before else 'the later'} is {missing.outcome}: {missing.reason}"
    return Change(before=CaseFinding(case=before.case), after=CaseFinding(case=after.case), ratio=change, reason=reason)


class NightCell(CaseFinding):
    """The numbers of a cell that a trend needs, or the reason why there are none."""

    labels: CellLabels = Field(exclude=True, repr=False)
    outcome: Outcome
    reason: str | None = None
    throughput: Estimate | None = None
    rates: tuple[float, ...] = ()
    """The throughput of each successful trial."""
    efficiency: Estimate | None = None
    """``None`` also where it is 1 by definition: at the rank count that speed-up starts from."""
    message_bytes: int | None = None
    """Of a collective: its largest message, which its throughput is for."""

    @property
    def key(self) -> str:
        """See :func:`comparison_key`."""
        return comparison_key(self.case)


def _outcomes(cells: Sequence[NightCell]) -> list[Outcome]:
    return [cell.outcome for cell in cells]


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
    """The fields of the machine and versions that must be equal before two nights are compared, by name."""
    cells: tuple[NightCell, ...]
    outcomes: dict[Outcome, int] = Field(default_factory=lambda fields: Counter(_outcomes(fields["cells"])))
    """The number of cells of each outcome; known also where the cells were not read."""
    own_cost: Estimate | None = None
    sources: str | None = None
    """The digest of what its ranks ran; ``None`` in old records."""

    def measured(self) -> dict[str, NightCell]:
        """The cells with a number, by key; injected faults are no part of a trend."""
        return {cell.key: cell for cell in self.cells if cell.rates and cell.case.fault is None}


class NightChange(FrozenModel):
    """A cell's throughput ÷ the same cell's in an earlier night."""

    cell: NightCell
    ratio: Estimate

    @property
    def clear_direction(self) -> str | None:
        """``slower`` or ``faster``; ``None`` where the interval includes 1, or there is none."""
        clear = direction(self.ratio)
        return clear if clear in ("slower", "faster") else None


class NightComparison(FrozenModel):
    """Two comparable nights; the clear changes come first, the largest first."""

    before: Night
    after: Night
    changes: tuple[NightChange, ...]
    """One for each cell that both nights measured; at least one."""


def night_cell(cell: Cell) -> NightCell:
    """The part of a cell that a night keeps."""
    return NightCell(
        case=cell.case,
        labels=cell.labels,
        outcome=cell.outcome,
        reason=cell.reason,
        throughput=cell.throughput,
        rates=cell.rates,
        efficiency=None if is_baseline(cell.efficiency) else cell.efficiency,
        message_bytes=max((message.message_bytes for message in cell.messages), default=None),
    )


def compare_nights(before: Night, after: Night) -> NightComparison | None:
    """``None`` where the environments differ, or no cell was measured in both."""
    if before.place != after.place:
        return None
    old, new = before.measured(), after.measured()
    changes = [
        NightChange(cell=cell, ratio=ratio(cell.rates, old[key].rates)) for key, cell in new.items() if key in old
    ]
    if not changes:
        return None
    changes.sort(key=lambda change: (change.clear_direction is None, -abs(math.log(change.ratio.value))))
    return NightComparison(before=before, after=after, changes=tuple(changes))


def latest_comparison(nights: Sequence[Night]) -> NightComparison | None:
    """The newest night that has a comparable earlier one, and the newest such. ``nights``: the oldest first."""
    for number in range(len(nights) - 1, 0, -1):
        for before in reversed(nights[:number]):
            if comparison := compare_nights(before, nights[number]):
                return comparison
    return None


def comparison_with_oldest(nights: Sequence[Night], last: Night) -> NightComparison | None:
    """``last`` against the oldest night that is comparable with it. ``nights``: the oldest first."""
    earlier = nights[: nights.index(last)]
    return next((comparison for before in earlier if (comparison := compare_nights(before, last))), None)


def environment_differences(night: Night, reference: Night) -> tuple[str, ...]:
    """``host b, not a``: where a night's machine and versions differ from the reference's."""
    names = dict.fromkeys((*night.place, *reference.place))
    values, reference_values = (
        {name: either.place.get(name, "none") for name in names} for either in (night, reference)
    )
    return tuple(
        f"{name} {values[name]}, not {reference_values[name]}"
        for name in names
        if values[name] != reference_values[name]
    )
