"""The style of each series of a figure, on screen and in print: colour, dash, marker, pattern of a bar."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from reports.page.elements import Figure, Series

T = TypeVar("T")

COLOURS = ("#0b7fc7", "#d55e00", "#0a8f6a", "#b5588c", "#7d6fd1", "#8a7a1f", "#c2414b", "#5c7d8a")
"""At least 3:1 against white and against the dark page (#14171c)."""
NEUTRAL_COLOUR = "#7a828c"
"""Of the ideal line and other marks of no series; 3:1 against both pages too."""
DASHES = ((), (7, 3), (2, 2), (7, 3, 2, 3), (12, 4), (12, 3, 2, 3))
"""Lengths of dashes and gaps in pixels."""
FITTED_DASHES = ((1, 3), (1, 5), (3, 4), (1, 2, 1, 5))
"""Of fitted lines."""
IDEAL_DASH = (2, 4)
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
MAX_MARKED_POINTS = 100
"""A curve of more points is a line without markers, with a band in place of intervals."""
BAR_OPACITY, HOLLOW_OPACITY = 0.3, 0.0
"""Of the inside of bars with intervals, so that an interval is seen inside of its bar too."""
PATTERNS = ("", "/", "x", ".", "\\", "-", "|")


@dataclass(frozen=True)
class SeriesStyle:
    """``dash`` is empty for a solid line."""

    colour: str
    dash: tuple[int, ...]
    marker: str
    pattern: str


def series_styles(figure: Figure) -> tuple[SeriesStyle, ...]:
    """One style for each series. The curves of one backend share its colour, and differ in dash, marker or pattern: no
    two series differ by colour alone."""
    used: set[object] = set()
    by_pattern = figure.stacked or figure.bars
    styles = (_pick_style(series, by_pattern, used) for series in figure.series)
    # A bar alone over its category is named by it.
    return tuple(replace(style, pattern="") if is_named_by_category(figure) else style for style in styles)


def _pick_style(series: Series, by_pattern: bool, used: set[object]) -> SeriesStyle:
    """The first style, from the series' own number on, that is not ``used``; its own where all are used."""
    own = series.style
    for number in range(own, own + len(DASHES) * len(MARKERS)):
        dashes = FITTED_DASHES if series.mark == "fitted" else DASHES
        style = SeriesStyle(
            _cycle(COLOURS, own), _cycle(dashes, number), _cycle(MARKERS, number), _cycle(PATTERNS, number)
        )
        distinguishing: object = style.dash
        if by_pattern:
            distinguishing = style.pattern
        elif has_markers(series):
            distinguishing = style.marker
        if number == own:
            first = style
        if distinguishing not in used:
            used.add(distinguishing)
            return style
    return first


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


def _cycle(options: Sequence[T], number: int) -> T:
    return options[number % len(options)]
