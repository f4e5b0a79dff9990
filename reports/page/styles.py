"""The style of each series of a figure, on screen and in print: colour, dash, marker, pattern of a bar."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from reports.page.dodge import is_named_by_category
from reports.page.elements import Figure, Series
from reports.page.palette import SeriesStyle, stretched

MAX_VARIANTS = 8
"""As many markers as there are."""
MAX_MARKED_POINTS = 100
"""A curve of more points is a line without markers, with a band in place of intervals."""
BAR_OPACITY, HOLLOW_OPACITY = 0.45, 0.0
"""Of the inside of bars with intervals, so that an interval is seen inside of its bar too."""


def series_styles(figure: Figure) -> tuple[SeriesStyle, ...]:
    """The style of each series: its own, with another dash, marker or pattern where another series of the figure has
    it already, since no two may differ by colour alone."""
    used: set[object] = set()
    by_pattern = figure.stacked or figure.bars
    styles = tuple(_pick_style(series, by_pattern, used) for series in figure.series)
    if is_named_by_category(figure) and len({style.colour for style in styles}) == len(styles):
        # The axis names a bar alone over its category: a pattern tells only those of one colour apart.
        return tuple(replace(style, pattern="") for style in styles)
    return styles


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
