"""The intervals of a series as they are drawn: capped where they would leave the axis, and marked there."""

from __future__ import annotations

from typing import NamedTuple

from reports.page.elements import Figure, Series
from reports.page.figure_axes import Axis
from reports.page.styles import has_band


class Span(NamedTuple):
    """The interval of one point, and on which side it goes on beyond the axis."""

    x: float
    low: float
    high: float
    below: bool
    above: bool


def spans(series: Series, axis: Axis) -> list[Span]:
    """The intervals of the points that have one, within the axis of values."""
    return [
        Span(x, max(low, axis.low), min(high, axis.high), low < axis.low, high > axis.high)
        for x, low, high in zip(series.x, series.low, series.high, strict=True)
        if low is not None and high is not None
    ]


def has_capped(figure: Figure, axis: Axis) -> bool:
    """Whether an interval of the figure goes on beyond the axis."""
    return not figure.stacked and any(
        span.below or span.above for series in figure.series if not has_band(series) for span in spans(series, axis)
    )
