"""Points and bars over one place are set apart, so that none hides another or its interval."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from reports.page.elements import Figure, Series
from reports.page.figure_axes import MAX_VALUE_TICKS, Axis

MAX_STEP, MAX_SPAN = 0.18, 0.7
"""Between two series over a category, and between the first and the last; a category takes 1."""
STEP_SHARE = 0.012
"""Of the axis, between two series over a number."""
GAP_SHARE = 0.6
"""Of the gap to the next number, what the series over one take at most."""


def dodge_series(figure: Figure, axis: Axis) -> Figure:
    """The figure with its series shifted along their axis ``x``.

    Over categories a line breaks where a category has no point.
    """
    if figure.bars:
        return _with_bars_side_by_side(figure)
    if figure.stacked:
        return figure
    if not figure.categories:
        return _with_points_apart(figure, axis)
    figure = replace(figure, series=tuple(map(_with_gaps, figure.series)))
    step = min(MAX_STEP, MAX_SPAN / len(figure.series)) if figure.series else 0.0
    return _shifted(figure, step)


def _shifted(figure: Figure, step: float) -> Figure:
    first = -step * (len(figure.series) - 1) / 2
    moved = (
        replace(series, x=tuple(x + first + number * step for x in series.x))
        for number, series in enumerate(figure.series)
    )
    return replace(figure, series=tuple(moved))


def _with_points_apart(figure: Figure, axis: Axis) -> Figure:
    """Points of several series at one number, such as a rank count; lines and long curves stay."""
    moved = [
        series
        for series in figure.series
        if series.mark in ("points", "markers") and 0 < len(series.x) <= MAX_VALUE_TICKS
    ]
    shared = Counter(x for series in moved for x in set(series.x))
    if max(shared.values(), default=0) < 2:
        return figure
    places = sorted(axis.at(x) for x in shared)
    gap = min((right - left for left, right in pairwise(places)), default=1.0)
    step = min(STEP_SHARE, GAP_SHARE * gap / len(moved))
    shift = {id(series): (number - (len(moved) - 1) / 2) * step for number, series in enumerate(moved)}
    return replace(
        figure,
        series=tuple(
            replace(series, x=tuple(axis.value_at(axis.at(x) + shift[id(series)]) for x in series.x))
            if id(series) in shift
            else series
            for series in figure.series
        ),
    )


def bars_per_category(figure: Figure) -> int:
    """The most bars over one category."""
    return max(Counter(round(x) for series in figure.series for x in series.x).values(), default=1)


def is_named_by_category(figure: Figure) -> bool:
    """Whether each bar has a category of its own, which names it."""
    return figure.bars and bars_per_category(figure) == 1


def bar_width(figure: Figure) -> float:
    """The width of a bar; a category takes a step of 1."""
    side_by_side = 1 if is_named_by_category(figure) else len(figure.series)
    return (0.72 if max(len(figure.categories), side_by_side) > 2 else 0.45) / side_by_side


def _with_bars_side_by_side(figure: Figure) -> Figure:
    return figure if is_named_by_category(figure) else _shifted(figure, bar_width(figure))


def _with_gaps(series: Series) -> Series:
    """With NaN at each category without a point between its first and its last."""
    if series.mark == "markers" or not series.x:
        return series
    points = dict(zip(series.x, zip(series.y, series.low, series.high, series.hollow, strict=True), strict=True))
    categories_x = tuple(float(x) for x in range(int(series.x[0]), int(series.x[-1]) + 1))
    y, low, high, hollow = zip(*(points.get(x, (math.nan, None, None, False)) for x in categories_x), strict=True)
    return replace(series, x=categories_x, y=y, low=low, high=high, hollow=hollow)
