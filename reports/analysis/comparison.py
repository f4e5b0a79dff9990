"""Two sweeps side by side: what changed from one to the other, cell by cell. It describes and gives no verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis.cells import Cell
from reports.analysis.stats import Estimate, ratio

Direction = Literal["faster", "slower", "unclear", "unknown"]
"""``unclear``: the interval holds 1; ``unknown``: there is none."""


def comparison_key(case: Case) -> str:
    """The case and the data it read: a stand-in is never compared with what it stands for."""
    return f"{case.key} {case.data.digest if case.data else ''}"


def direction(found: Estimate | None) -> Direction:
    """What the interval of a ratio of throughputs allows to say."""
    if found is None or found.low is None or found.high is None:
        return "unknown"
    if found.low > 1:
        return "faster"
    return "slower" if found.high < 1 else "unclear"


class Change(FrozenModel):
    """One case in both sweeps; without a ratio :attr:`reason` says why."""

    before: Case
    after: Case
    ratio: Estimate | None
    """Throughput of the later sweep ÷ that of the first, with Welch's interval over trials."""
    reason: str | None = None

    @property
    def direction(self) -> Direction:
        return direction(self.ratio)


class Comparison(FrozenModel):
    """All that two sweeps have in common. ``across``: backends are compared with each other, not with themselves."""

    first: str
    other: str
    changes: tuple[Change, ...]
    across: bool = False
    only_first: int = 0
    only_other: int = 0


def compare(first: str, before: Sequence[Cell], other: str, after: Sequence[Cell]) -> Comparison:
    """``first`` and ``other`` are the sweeps' labels. Cells without one of the same case in the other are counted.

    Where no case is in both and each sweep ran one backend only, the backends are compared.
    """
    by_case = _pairs(before, after, lambda cell: comparison_key(cell.case))
    if by_case or not _one_backend(before) or not _one_backend(after):
        return _comparison(first, other, by_case, before, after, across=False)
    return _comparison(first, other, _pairs(before, after, _without_backend), before, after, across=True)


def labelled(cells: Sequence[Cell], label: str) -> tuple[Cell, ...]:
    """The same cells as those of a named sweep: their curves are told apart from other sweeps'."""
    return tuple(cell.model_copy(update={"case": cell.case.model_copy(update={"label": label})}) for cell in cells)


def _pairs(before: Sequence[Cell], after: Sequence[Cell], key: Callable[[Cell], str]) -> list[tuple[Cell, Cell]]:
    first_by_key: Mapping[str, Cell] = {key(cell): cell for cell in before}
    return [(first_by_key[key(cell)], cell) for cell in after if key(cell) in first_by_key]


def _without_backend(cell: Cell) -> str:
    plain = {"backend": "any", "transport": "any", "backend_options": {}}
    return comparison_key(cell.case.model_copy(update=plain))


def _one_backend(cells: Sequence[Cell]) -> bool:
    return len({(cell.case.backend, cell.case.transport, str(cell.case.backend_options)) for cell in cells}) == 1


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
    found, why = None, None
    if before.rates and after.rates:
        found = ratio(after.rates, before.rates)
    else:
        missing = before if not before.rates else after
        why = f"{'the first' if missing is before else 'the later'} is {missing.outcome}: {missing.reason}"
    return Change(before=before.case, after=after.case, ratio=found, reason=why)
