"""The axes of a figure, on screen and in print: their ranges, and ticks with labels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from reports.analysis import formatting
from reports.page.elements import Figure, Series

MAX_VALUE_TICKS = 40
"""Up to so many different values of ``x`` are the ticks themselves: rank counts, message sizes."""
MAX_FITTED_TICKS = 16
"""The points of a fitted line of up to so many count as values of ``x``; a longer one is a curve."""
CHARACTER_SHARE = 0.018
"""The share of the axis that a character of a label takes, about; labels must not overlap."""
INTERVAL_SHARE = 2
"""Intervals are inside of the axis up to so many times the highest point, and capped beyond."""
TARGET_TICKS = 6
MIN_TICKS = 3
SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1e-6, "µ"), (1e-9, "n"))
SMALL_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
UNIT_PATTERN = re.compile(r"\(([^()]+)\)$")
"""The unit at the end of an axis's title."""
TIME_UNITS = ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns"))


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``; ``ticks`` are values with their labels."""

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """The position of a value as a share of the axis; outside of 0 to 1 beyond its ends."""
        low, high, value = (_to_scale(number, self.log) for number in (self.low, self.high, value))
        return (value - low) / (high - low)

    def value_at(self, share: float) -> float:
        """The value at a position: the inverse of :meth:`at`."""
        low, high = _to_scale(self.low, self.log), _to_scale(self.high, self.log)
        value = low + share * (high - low)
        return float(10.0**value) if self.log else value


def x_axis(figure: Figure) -> Axis:
    """The axis of ranks, sizes, seconds or categories; a category takes a step of 1, curves have padding."""
    if figure.categories:
        return Axis(-0.5, len(figure.categories) - 0.5, False, tuple(enumerate(figure.categories)))
    shown = [x for series in figure.series for x in series.x if _is_drawable(x, figure.log_x)]
    if figure.window:
        shown += [x for x in figure.window if _is_drawable(x, figure.log_x)]
    low, high = _padded_range(min(shown, default=1.0), max(shown, default=1.0), 0.06, log=figure.log_x)
    marked = (series for series in figure.series if series.mark != "fitted" or len(series.x) <= MAX_FITTED_TICKS)
    values = sorted({x for series in marked for x in series.x if low <= x <= high})
    continuous = len(values) > MAX_VALUE_TICKS or any(series.mark == "line" for series in figure.series)
    bare_axis = Axis(low, high, figure.log_x, ())
    places = _round_ticks(low, high, figure.log_x) if continuous else _spaced_ticks(values, bare_axis, figure.x_title)
    return Axis(low, high, figure.log_x, tuple((x, value_label(x, figure.x_title)) for x in places))


def y_axis(figure: Figure) -> Axis:
    """The axis of values: from 0, unless it is logarithmic or there are negative values.

    Every point and every fitted line is inside. Intervals from two trials may be far longer: they are inside up to
    :data:`INTERVAL_SHARE` times the highest point, and capped beyond (:mod:`reports.page.spans`). Bands of fitted lines
    don't count.
    """
    points = [y for y in _y_values(figure) if _is_drawable(y, figure.log_y)]
    points += [figure.y_end] if figure.y_end is not None else []
    ends = [
        end
        for series in figure.series
        if series.mark != "fitted"
        for end in (*series.low, *series.high)
        if end is not None and _is_drawable(end, figure.log_y)
    ]
    lowest, highest = min(points, default=0.1 if figure.log_y else 0.0), max(points, default=1.0)
    magnitude = max(abs(lowest), abs(highest))
    if figure.log_y:
        low = max(min([lowest, *ends]), lowest / 10)
        low, high = _padded_range(low, min(max([highest, *ends]), 10 * highest), 0.04, log=True)
    else:
        low = 0.0 if lowest >= 0 else max(min([lowest, *ends]), -INTERVAL_SHARE * magnitude)
        high = max(0.0, min(max([highest, *ends]), INTERVAL_SHARE * magnitude)) or (1.0 if low == 0 else 0.0)
        low, high = (1.05 * low, high + 0.05 * (high - low))
    places = _round_ticks(low, high, figure.log_y)
    return Axis(low, high, figure.log_y, tuple(zip(places, _value_labels(figure, places), strict=True)))


def _value_labels(figure: Figure, values: Sequence[float]) -> list[str]:
    """The labels of an axis of values: shares, times, or numbers, on a linear axis all with one prefix or unit."""
    if figure.percent:
        return [percent_label(value) for value in values]
    largest = max(map(abs, values), default=0.0)
    if (scale := _unit_scale(figure, largest)) is not None:
        return [f"{value / scale[0]:.6g}" for value in values]
    scale_of = _time_unit if figure.seconds else _prefix
    labels = []
    for value in values:
        factor, unit = scale_of(value if figure.log_y else largest)
        labels.append(f"{value / factor:.6g}{unit}" if value else "0")
    return labels


def value_title(figure: Figure) -> str:
    """The title of the axis of values, with the prefix of its unit: ``energy (µJ/sample)`` for J/sample."""
    largest = max((abs(tick) for tick, _ in y_axis(figure).ticks), default=0.0)
    scale = _unit_scale(figure, largest)
    return figure.y_title if scale is None else UNIT_PATTERN.sub(f"({scale[1]})", figure.y_title)


def _unit_scale(figure: Figure, largest: float) -> tuple[float, str] | None:
    """What the labels of a linear axis are divided by, and the unit with that prefix; ``None`` where its unit takes
    no prefix: the numbers then have one."""
    unit = UNIT_PATTERN.search(figure.y_title)
    if figure.log_y or figure.percent or figure.seconds or unit is None:
        return None
    symbol = unit[1].partition("/")[0]
    if symbol not in formatting.PREFIXED_UNITS or largest == 0:
        return None
    factor, prefix = _prefix(largest) if largest >= 1 else _reached(largest, SMALL_PREFIXES)
    return factor, f"{prefix}{unit[1]}"


def _prefix(value: float) -> tuple[float, str]:
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return 1.0, ""
    return _reached(value, SI_PREFIXES)


def _time_unit(value: float) -> tuple[float, str]:
    return _reached(value, TIME_UNITS)


def _reached(value: float, scales: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest scale that the value reaches; the smallest for less."""
    return next((scale for scale in scales if abs(value) >= scale[0] * (1 - 1e-9)), scales[-1])


def percent_label(share: float) -> str:
    """``71 %``"""
    return f"{100 * share:.3g} %"


def _y_values(figure: Figure) -> list[float]:
    if figure.stacked:
        return _stack_totals(figure.series)
    ideal = ideal_line(figure)
    return [*(y for series in figure.series for y in series.y), *(y for _, y in ideal)]


def _stack_totals(layers: Sequence[Series]) -> list[float]:
    tops: dict[float, float] = {}
    for layer in layers:
        for x, y in zip(layer.x, layer.y, strict=True):
            tops[x] = tops.get(x, 0.0) + y
    return list(tops.values())


def stack_bases(layers: Sequence[Series]) -> list[dict[float, float]]:
    """The base of each layer of stacked bars, by ``x``."""
    heights = [dict(zip(layer.x, layer.y, strict=True)) for layer in layers]
    empty: dict[float, float] = {}
    return list(
        accumulate(
            heights[:-1],
            lambda below, layer: {x: below.get(x, 0.0) + layer.get(x, 0.0) for x in below.keys() | layer.keys()},
            initial=empty,
        )
    )


def ideal_line(figure: Figure) -> list[tuple[float, float]]:
    """The points of the ideal line; none where the figure has none."""
    places = sorted({x for series in figure.series for x in series.x}) if figure.ideal else []
    return [(x, x if figure.ideal == "linear" else 1.0) for x in places]


def _is_drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _to_scale(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _padded_range(low: float, high: float, room: float, *, log: bool) -> tuple[float, float]:
    """The range with padding at both ends; around the value where both ends are equal."""
    if log:
        span = math.log10(high / low) or 1.0
        return low / 10 ** (room * span), high * 10 ** (room * span)
    span = (high - low) or abs(high) or 1.0
    return low - room * span, high + room * span


def _spaced_ticks(values: Sequence[float], axis: Axis, title: str) -> list[float]:
    """The values whose labels do not overlap, from the last on; on a logarithmic axis every second, third, …"""
    if axis.log:
        strides = (list(values[::-stride][::-1]) for stride in range(1, len(values) + 1))
        return next((kept for kept in strides if all(_labels_fit(*pair, axis, title) for pair in pairwise(kept))), [])
    kept: list[float] = []
    for value in reversed(values):
        if not kept or _labels_fit(value, kept[-1], axis, title):
            kept.append(value)
    return kept[::-1]


def _labels_fit(left: float, right: float, axis: Axis, title: str) -> bool:
    """Whether the labels of two values do not overlap."""
    characters = (len(value_label(left, title)) + len(value_label(right, title))) / 2 + 1
    return axis.at(right) - axis.at(left) >= CHARACTER_SHARE * characters


def _round_ticks(low: float, high: float, log: bool) -> list[float]:
    """Round values: decades where the range has more than about two, else 1, 2 or 5 times a power of ten apart."""
    if log and high / low >= 50:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        every = max(1, math.ceil((last - first + 1) / 8))
        return [float(10.0**power) for power in range(first, last + 1, every)]
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), range(1, 10)):
            places = [digit * 10.0**power for power in decades for digit in digits]
            inside = [place for place in places if low <= place <= high]
            if len(inside) >= MIN_TICKS:
                return inside
    target_step = (high - low) / TARGET_TICKS
    power = 10.0 ** math.floor(math.log10(target_step))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= target_step * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def value_label(value: float, title: str) -> str:
    """``4``, ``0.25``, ``20k``, ``3µ``; ``64 KiB`` for bytes; all digits for ranks."""
    if "bytes" in title and value >= 1 and value == int(value):
        return formatting.message_size(int(value))
    if value == 0 or 1e-3 <= abs(value) < (1e5 if "ranks" in title else 1e3):
        return f"{value:.6g}"
    factor, prefix = _reached(value, SI_PREFIXES)
    return f"{value / factor:.6g}{prefix}"
