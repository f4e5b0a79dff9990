"""What a figure says of a point that is pointed at: its name, its value with the interval, and where it is."""

from __future__ import annotations

import math
import textwrap

from reports.analysis import formatting
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Series
from reports.page.figure_axes import UNIT_PATTERN, value_label

LINE_CHARACTERS = 20
"""So that a tooltip is inside of a figure on a phone, wherever its point is."""


def hover_text(figure: Figure, series: Series, at: int) -> list[str]:
    """The lines about one point of a series.

    Args:
        figure: Before its series are set apart.
        series: Of the figure.
        at: The number of the point.
    """
    lines = [series.name, value_text(figure, series.y[at], series.low[at], series.high[at])]
    if (where := _place_text(figure, series.x[at])) != series.name:
        lines.append(where)
    if series.mark == "points" and not figure.stacked and series.low[at] is None:
        lines.append("interval unknown")
    wrapper = textwrap.TextWrapper(LINE_CHARACTERS, break_on_hyphens=False)
    return [part for line in lines for part in wrapper.wrap(line)]


def value_text(figure: Figure, value: float, low: float | None, high: float | None) -> str:
    """``13.8k (12.8k–14.9k) samples/s``, ``71 % (68–74 %)``, ``12.4 ms (12.0 ms–12.9 ms)``"""
    if not math.isfinite(value):
        return "unknown"
    unit = UNIT_PATTERN.search(figure.y_title)
    name = "s" if figure.seconds else unit[1] if unit else "1"
    estimate = Estimate(value=value, low=low, high=high, n=1, unit=name)
    return formatting.percent(estimate) if figure.percent else formatting.estimate(estimate)


def _place_text(figure: Figure, x: float) -> str:
    if figure.categories:
        return figure.categories[round(x)]
    title = UNIT_PATTERN.sub("", figure.x_title).strip()
    unit = UNIT_PATTERN.search(figure.x_title)
    if title == "ranks":
        return f"at {formatting.ranks(round(x))}"
    if unit and unit[1] == "bytes":
        return f"at {value_label(x, figure.x_title)}"
    return f"{title}: {formatting.number(x)}{f' {unit[1]}' if unit else ''}"
