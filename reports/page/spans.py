"""The intervals of a series as they are drawn: capped where they would leave the axis, and marked there."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def thinned(own: Sequence[Span], most: int) -> list[Span]:
    """At most so many intervals: each stands for neighbours, from the lowest to the highest of their ends."""
    each = max(1, math.ceil(len(own) / most))
    groups = [own[first : first + each] for first in range(0, len(own), each)]
    return [
        Span(
            group[len(group) // 2].x,
            min(span.low for span in group),
            max(span.high for span in group),
            any(span.below for span in group),
            any(span.above for span in group),
        )
        for group in groups
    ]


def has_capped(figure: Figure, axis: Axis) -> bool:
    """Whether an interval of the figure goes on beyond the axis."""
    return not figure.stacked and any(
        span.below or span.above for series in figure.series if not has_band(series) for span in spans(series, axis)
    )
