"""The style of each series of a figure, on screen and in print: colour, dash, marker, pattern of a bar."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from reports.page.elements import Figure, Series
from reports.page.palette import SeriesStyle, stretched

MAX_VARIANTS = 8
"""As many markers as there are."""
MAX_MARKED_POINTS = 100
"""A curve of more points is a line without markers, with a band in place of intervals."""
BAR_OPACITY, HOLLOW_OPACITY = 0.3, 0.0
"""Of the inside of bars with intervals, so that an interval is seen inside of its bar too."""


def series_styles(figure: Figure) -> tuple[SeriesStyle, ...]:
    """The style of each series: its own, with another dash, marker or pattern where another series of the figure has
    it already, since no two may differ by colour alone."""
    used: set[object] = set()
    by_pattern = figure.stacked or figure.bars
    styles = (_pick_style(series, by_pattern, used) for series in figure.series)
    # A bar alone over its category is named by it.
    return tuple(replace(style, pattern="") if is_named_by_category(figure) else style for style in styles)


def _pick_style(series: Series, by_pattern: bool, used: set[object]) -> SeriesStyle:
    """The first variant of its style that is not ``used``; its own where all are used."""
    own = series.style
    fitted = series.mark == "fitted"
    for number in range(MAX_VARIANTS):
        style = replace(own, dash=stretched(own.dash, number)) if fitted else own.variant(number)
        distinguishing: object = style.dash
        if by_pattern:
            distinguishing = style.pattern
        elif has_markers(series):
            distinguishing = style.marker
        if distinguishing not in used:
            used.add(distinguishing)
            return style if number else own
    return own


def has_markers(series: Series) -> bool:
    """Whether its points have markers; many markers on a line would overlap, and slow a browser down."""
    if series.mark == "points":
        return len(series.x) <= MAX_MARKED_POINTS or any(series.hollow)
    return series.mark == "markers"


def has_band(series: Series) -> bool:
    """Whether its intervals are drawn as a band; many bars would hide the curve, and slow a browser down."""
    ascending = all(left < right for left, right in pairwise(series.x))
    return series.mark in ("line", "fitted") or (
        series.mark == "points" and len(series.x) > MAX_MARKED_POINTS and ascending
    )


def dodge_series(figure: Figure) -> Figure:
    """Shift series over the same categories apart, so that they do not hide each other; bars stay.

    A line breaks where a category has no point.
    """
    if figure.bars:
        return _with_bars_side_by_side(figure)
    if not figure.categories or figure.stacked:
        return figure
    figure = replace(figure, series=tuple(map(_with_gaps, figure.series)))
    step = min(0.18, 0.7 / len(figure.series)) if figure.series else 0.0
    first = -step * (len(figure.series) - 1) / 2
    moved = (
        replace(series, x=tuple(x + first + number * step for x in series.x))
        for number, series in enumerate(figure.series)
    )
    return replace(figure, series=tuple(moved))


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
    if is_named_by_category(figure):
        return figure
    width, first = bar_width(figure), (1 - len(figure.series)) / 2
    moved = (
        replace(series, x=tuple(x + (first + number) * width for x in series.x))
        for number, series in enumerate(figure.series)
    )
    return replace(figure, series=tuple(moved))


def _with_gaps(series: Series) -> Series:
    """With NaN at each category without a point between its first and its last."""
    if series.mark == "markers" or not series.x:
        return series
    points = dict(zip(series.x, zip(series.y, series.low, series.high, series.hollow, strict=True), strict=True))
    categories_x = tuple(float(x) for x in range(int(series.x[0]), int(series.x[-1]) + 1))
    y, low, high, hollow = zip(*(points.get(x, (math.nan, None, None, False)) for x in categories_x), strict=True)
    return replace(series, x=categories_x, y=y, low=low, high=high, hollow=hollow)
