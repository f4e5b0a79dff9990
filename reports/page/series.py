"""Estimates over rank counts, one series a backend, and the rows that hold their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reports.analysis.cells import Cell
from reports.analysis.stats import Estimate
from reports.page.elements import Series

Rows = tuple[tuple[str, ...], ...]


def series_by_ranks(
    cells: Sequence[Cell],
    styles: Mapping[str, int],
    of: Callable[[Cell], Estimate | None],
    shown: Callable[[Estimate], str],
    min_points: int = 1,
) -> tuple[tuple[Series, ...], Rows]:
    """One series a backend of what ``of`` gives, where it has ``fewest`` points; the rows have all that is known.

    A row: backend, ranks, the estimate as ``shown``, trials, flags.
    """
    series, rows = [], []
    for name in dict.fromkeys(cell.labels.backend for cell in cells):
        points = [
            (cell.case.ranks, estimates, cell.labels.flags)
            for cell in sorted(cells, key=lambda cell: cell.case.ranks)
            if cell.labels.backend == name and (estimates := of(cell)) is not None
        ]
        rows += [(name, str(ranks), shown(estimates), str(estimates.n), flags) for ranks, estimates, flags in points]
        if len(points) >= min_points:
            x = tuple(float(ranks) for ranks, _, _ in points)
            hollow = tuple("oversubscribed" in flags for _, _, flags in points)
            series.append(estimate_series(name, x, [estimates for _, estimates, _ in points], styles[name], hollow))
    return tuple(series), tuple(rows)


def estimate_series(
    name: str, x: tuple[float, ...], estimates: Sequence[Estimate], style: int, hollow: tuple[bool, ...] | None = None
) -> Series:
    low, high = tuple(f.low for f in estimates), tuple(f.high for f in estimates)
    return Series(name, x, tuple(f.value for f in estimates), low, high, style, hollow or (False,) * len(x))
