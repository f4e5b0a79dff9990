"""Series of figures: from points with and without intervals, and from estimates over rank counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from reports.analysis.cells import Cell
from reports.analysis.findings import has_curve
from reports.analysis.flags import claim_problem
from reports.analysis.stats import Estimate
from reports.page.elements import Mark, Series
from reports.page.palette import SeriesStyle

Rows = tuple[tuple[str, ...], ...]
Interval = tuple[float, float, float | None, float | None]
"""``x``, ``y``, and the low and the high end of the interval of ``y``."""


def cell_title(cell: Cell, cells: Sequence[Cell]) -> str:
    """``ddp/nccl, 4 ranks``; the backend alone where each has one rank count, which the section names.

    Args:
        cell: The cell.
        cells: Those of its section.
    """
    return f"{cell.labels.backend}, {cell.labels.ranks}" if has_curve(cells) else cell.labels.backend


def interval_series(
    name: str, points: Sequence[Interval], style: SeriesStyle, mark: Mark = "points", hollow: Sequence[bool] = ()
) -> Series:
    """A series of points with intervals; ``hollow``: which of them are drawn hollow, by default none."""
    x, y, low, high = zip(*points, strict=True) if points else ((),) * 4
    return Series(name, tuple(map(float, x)), y, low, high, style, tuple(hollow) or (False,) * len(x), mark)


def point_series(
    name: str,
    x: Sequence[float],
    y: Sequence[float | None],
    style: SeriesStyle,
    mark: Mark = "points",
    hollow: Sequence[bool] = (),
) -> Series:
    """A series of points without intervals; ``hollow``: which of them are drawn hollow, by default none.

    An unknown ``y`` is a gap in its line.
    """
    points = [(at, math.nan if value is None else value, None, None) for at, value in zip(x, y, strict=True)]
    return interval_series(name, points, style, mark, hollow)


def estimate_series(
    name: str, x: Sequence[float], estimates: Sequence[Estimate], style: SeriesStyle, hollow: Sequence[bool] = ()
) -> Series:
    """A series of estimates with their intervals; ``hollow``: which of them are drawn hollow, by default none."""
    points = [(at, value.value, value.low, value.high) for at, value in zip(x, estimates, strict=True)]
    return interval_series(name, points, style, hollow=hollow)


def series_by_ranks(
    cells: Sequence[Cell],
    styles: Mapping[str, SeriesStyle],
    of: Callable[[Cell], Estimate | None],
    shown: Callable[[Estimate], str],
    min_points: int = 1,
) -> tuple[tuple[Series, ...], Rows]:
    """An estimate of each cell over ranks, one series a backend, and the rows of all that is known.

    Args:
        cells: those of a group.
        styles: the style of each backend, by its title.
        of: the estimate of a cell, or ``None``.
        shown: the estimate as text, for the rows.
        min_points: a backend with fewer points has no series.

    Returns:
        The series, and rows of backend, ranks, estimate, number of trials, flags.
    """
    series, rows = [], []
    for name in dict.fromkeys(cell.labels.backend for cell in cells):
        points = [
            (cell, value)
            for cell in sorted(cells, key=lambda cell: cell.case.ranks)
            if cell.labels.backend == name and (value := of(cell)) is not None
        ]
        rows += [(name, str(cell.case.ranks), shown(value), str(value.n), cell.labels.flags) for cell, value in points]
        if len(points) >= min_points:
            x = [float(cell.case.ranks) for cell, _ in points]
            hollow = [claim_problem(cell.flags) is not None for cell, _ in points]
            series.append(estimate_series(name, x, [value for _, value in points], styles[name], hollow))
    return tuple(series), tuple(rows)
