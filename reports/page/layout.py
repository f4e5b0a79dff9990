"""The layout of a figure, on screen and in print: its axes with their ranges and ticks, its size and its margins."""

from __future__ import annotations

import math
import re
import textwrap
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
MAX_DATE_TICKS = 16
"""More labels of dates would overlap on a narrow screen."""
TARGET_TICKS = 6
MIN_TICKS = 3
SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


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


def x_axis(figure: Figure) -> Axis:
    """The axis of ranks, sizes, seconds or categories; a category takes a step of 1, curves have padding."""
    if figure.categories:
        ticks = tuple((float(number), name) for number, name in enumerate(figure.categories))
        # Names are all shown; of many dates every second or third.
        every = math.ceil(len(ticks) / MAX_DATE_TICKS) if figure.x_title in ("night", "sweep") else 1
        return Axis(-0.5, len(ticks) - 0.5, False, ticks[::-1][::every][::-1])
    shown = [x for series in figure.series for x in series.x if _is_drawable(x, figure.log_x)]
    if figure.window:
        shown += [x for x in figure.window if _is_drawable(x, figure.log_x)]
    low, high = _padded_range(min(shown, default=1.0), max(shown, default=1.0), 0.04, log=figure.log_x)
    marked = (series for series in figure.series if series.mark != "fitted" or len(series.x) <= MAX_FITTED_TICKS)
    values = sorted({x for series in marked for x in series.x if low <= x <= high})
    continuous = len(values) > MAX_VALUE_TICKS or any(series.mark == "line" for series in figure.series)
    bare_axis = Axis(low, high, figure.log_x, ())
    places = _round_ticks(low, high, figure.log_x) if continuous else _spaced_ticks(values, bare_axis, figure.x_title)
    return Axis(low, high, figure.log_x, tuple((x, value_label(x, figure.x_title)) for x in places))


def y_axis(figure: Figure) -> Axis:
    """The axis of values: from 0, unless it is logarithmic or there are negative values.

    Every point and every fitted line is inside. Intervals from two trials may be far longer: they are inside up to
    twice the highest point, and clipped beyond. Bands of fitted lines don't count.
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
        low = 0.0 if lowest >= 0 else max(min([lowest, *ends]), -2 * magnitude)
        high = max(0.0, min(max([highest, *ends]), 2 * magnitude)) or (1.0 if low == 0 else 0.0)
        low, high = (1.05 * low, high + 0.05 * (high - low))
    places = _round_ticks(low, high, figure.log_y)
    return Axis(
        low, high, figure.log_y, tuple((y, percent_label(y) if figure.percent else value_label(y, "")) for y in places)
    )


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
                break
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
    factor, prefix = next((pair for pair in SI_PREFIXES if abs(value) >= pair[0] * (1 - 1e-9)), (1.0, ""))
    return f"{value / factor:.6g}{prefix}"


HEIGHT, WIDTH, WIDE = 290, 370, 960
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 26
CHARACTER_PX = 6.4
"""Pixels that a character of a label takes, about."""
LABEL_ANGLE = -40
"""Degrees, for labels that are too long to fit side by side."""
MAX_LABEL_LINES = 4
LINE_PX = 15
"""Pixels from a line of a label to the next."""
WRAPPED_SHARE = 0.8
"""Of the room for a label, what its lines fill at most: characters differ in width."""


class FigureLayout:
    """The layout of one figure, in pixels from its left and its top.

    ``labels``: the lines of each x label; ``slanted``: whether x labels are rotated, and then of one line.
    """

    def __init__(self, figure: Figure) -> None:
        self.x, self.y = x_axis(figure), y_axis(figure)
        self.width = WIDE if figure.wide else WIDTH
        self.right, self.bottom = self.width - RIGHT, HEIGHT - BOTTOM
        names = [name for _, name in self.x.ticks]
        longest = max(map(len, names), default=0)
        room = int((self.right - LEFT) / (CHARACTER_PX * max(1, len(names)))) - 1
        self.labels = [(name,) for name in names] if longest <= room else wrap_labels(names, int(WRAPPED_SHARE * room))
        self.slanted = not self.labels and bool(names)
        if self.slanted:
            # The first label extends to the left, and must not leave the figure.
            fitting = min(longest, int(self.x_pixel(self.x.ticks[0][0]) / (0.77 * CHARACTER_PX)))
            self.labels = [(ellipsize(name, fitting),) for name in names]
            self.bottom -= round(0.64 * CHARACTER_PX * fitting)
        else:
            self.bottom -= LINE_PX * (max(map(len, self.labels), default=1) - 1)

    def is_drawable(self, x: float, y: float) -> bool:
        """Whether a point is finite, and positive on logarithmic axes."""
        finite = math.isfinite(x) and math.isfinite(y)
        return finite and (x > 0 or not self.x.log) and (y > 0 or not self.y.log)

    def x_pixel(self, x: float) -> float:
        """Pixels from the left."""
        return LEFT + self.x.at(x) * (self.right - LEFT)

    def y_pixel(self, y: float) -> float:
        """Pixels from the top; values far outside are clipped near the edge."""
        return self.bottom - min(2.0, max(-1.0, self.y.at(y))) * (self.bottom - TOP)

    def point(self, x: float, y: float) -> str:
        """``52.3 120``: a point in an SVG path."""
        return f"{pixels(self.x_pixel(x))} {pixels(self.y_pixel(y))}"


class _SlashWrapper(textwrap.TextWrapper):
    """It may break a line after a slash too: ``horovod/`` ``nccl``."""

    wordsep_simple_re = re.compile(r"(\s+)|(?<=/)")


def wrap_labels(names: Sequence[str], room: int) -> list[tuple[str, ...]]:
    """The lines of each name, of at most ``room`` characters; empty where one has a longer word, or too many lines.

    A name is broken at spaces, and where that is not enough, after slashes.
    """
    for wrapper in (textwrap.TextWrapper, _SlashWrapper) if room >= 1 else ():
        wrap = wrapper(room, break_long_words=False, break_on_hyphens=False).wrap
        wrapped = [tuple(wrap(name)) for name in names]
        if all(len(lines) <= MAX_LABEL_LINES and max(map(len, lines), default=0) <= room for lines in wrapped):
            return wrapped
    return []


def ellipsize(name: str, longest: int) -> str:
    """The name, cut to ``longest`` characters with an ellipsis in its middle: names often differ at their ends."""
    head = max(0, longest - 1) * 2 // 5
    return name if len(name) <= longest else f"{name[:head]}…{name[len(name) - (longest - 1 - head) :]}"


def pixels(value: float) -> str:
    """A length as text, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
