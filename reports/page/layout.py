"""The layout of a figure, on screen and in print: its size and margins, where its axes run, and the labels on them.

Labels are never cut and never rotated. Categories whose names don't fit side by side on a narrow screen are rows: their
axis runs from the top to the bottom, and that of the values from left to right.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

from reports.page.dodge import bars_per_category
from reports.page.elements import Figure
from reports.page.figure_axes import Axis, x_axis, y_axis

HEIGHT, WIDTH, WIDE = 290, 370, 960
MIN_HEIGHT = 150
"""Of a figure of few rows, so that a tooltip is inside of it."""
NARROW = 300
"""The width of a figure on a phone."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 26
CHARACTER_PX = 6.4
"""Pixels that a character of a label takes, about."""
MAX_LABEL_LINES = 3
MAX_ROW_CHARACTERS = 24
"""Of a line of a label beside its row."""
LINE_PX = 15
"""Pixels from a line of a label to the next."""
ROW_GAP_PX, BAR_PX = 8, 11
"""Between the rows of a figure, and the least height of a bar."""
WRAPPED_SHARE = 0.8
"""Of the room for a label, what its lines fill at most: characters differ in width."""
TIME_TITLES = ("night", "sweep")
"""Of axes whose categories are points in time: of many, every second or third is labelled."""


class FigureLayout:
    """The layout of one figure, in pixels from its left and its top.

    ``labels``: the lines of each label of the axis ``x``; ``rows``: whether its categories are rows.
    """

    def __init__(self, figure: Figure) -> None:
        self.x, self.y = x_axis(figure), y_axis(figure)
        self.width = WIDE if figure.wide else WIDTH
        self.left, self.top, height = LEFT, TOP, HEIGHT
        names = [name for _, name in self.x.ticks]
        if figure.categories and figure.x_title in TIME_TITLES:
            self.x, self.labels = _with_fitting_ticks(self.x, self.width)
        elif figure.categories:
            self.labels = wrap_labels(names, _room(NARROW, len(names)))
        else:
            self.labels = [(name,) for name in names]
        self.rows = not self.labels and bool(names)
        lines = max(map(len, self.labels), default=1)
        if self.rows:
            self.width = WIDTH
            self.labels = break_labels(names, MAX_ROW_CHARACTERS)
            lines = max(map(len, self.labels))
            self.left = round(12 + CHARACTER_PX * max(len(line) for label in self.labels for line in label))
            height = max(MIN_HEIGHT, TOP + BOTTOM + len(names) * _row_height(figure, lines))
            lines = 1
            self.y = _with_spaced_values(self.y, NARROW - self.left - RIGHT)
        self.height = height
        self.right, self.bottom = self.width - RIGHT, height - BOTTOM - LINE_PX * (lines - 1)

    def is_drawable(self, x: float, y: float) -> bool:
        """Whether a point is finite, and positive on logarithmic axes."""
        finite = math.isfinite(x) and math.isfinite(y)
        return finite and (x > 0 or not self.x.log) and (y > 0 or not self.y.log)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the left and from the top; values far outside are clipped near the edge."""
        along, up = self.x.at(x), min(2.0, max(-1.0, self.y.at(y)))
        across, down = (up, along) if self.rows else (along, 1 - up)
        return self.left + across * (self.right - self.left), self.top + down * (self.bottom - self.top)

    def point(self, x: float, y: float) -> str:
        """``52.3 120``: a point in an SVG path."""
        return " ".join(map(pixels, self.place(x, y)))

    def box(self, x: tuple[float, float], y: tuple[float, float]) -> str:
        """A closed path around the values between two of each axis."""
        (left, top), (right, bottom) = self.place(x[0], y[0]), self.place(x[1], y[1])
        return f"M{pixels(left)} {pixels(top)}H{pixels(right)}V{pixels(bottom)}H{pixels(left)}z"


def _room(width: int, count: int) -> int:
    """The characters that each of so many labels side by side has room for."""
    return int(WRAPPED_SHARE * (width - LEFT - RIGHT) / (CHARACTER_PX * max(1, count)))


def _with_spaced_values(axis: Axis, width: int) -> Axis:
    """The axis of values with as many of its labels, from the first on, as fit side by side."""
    longest = max((len(name) for _, name in axis.ticks), default=1) + 1
    every = math.ceil(len(axis.ticks) * longest * CHARACTER_PX / width)
    return Axis(axis.low, axis.high, axis.log, axis.ticks[:: max(1, every)])


def _row_height(figure: Figure, lines: int) -> int:
    bars = bars_per_category(figure) if figure.bars else 1
    return max(lines * LINE_PX, bars * BAR_PX) + ROW_GAP_PX


def _with_fitting_ticks(axis: Axis, width: int) -> tuple[Axis, list[tuple[str, ...]]]:
    """The axis with as many of its labels, from the last on, as fit side by side; and the lines of these."""
    for every in range(1, len(axis.ticks) + 1):
        kept = axis.ticks[::-1][::every][::-1]
        names = [name for _, name in kept]
        if lines := wrap_labels(names, _room(width, len(names))):
            break
    else:
        lines = break_labels(names, MAX_ROW_CHARACTERS)
    return Axis(axis.low, axis.high, axis.log, kept), lines


class _SlashWrapper(textwrap.TextWrapper):
    """It may break a line after a slash too: ``horovod/`` ``nccl``."""

    wordsep_simple_re = re.compile(r"(\s+)|(?<=/)")


def wrap_labels(names: Sequence[str], room: int) -> list[tuple[str, ...]]:
    """The lines of each name, of at most ``room`` characters; empty where one has a longer word, or too many lines.

    A name is broken at spaces, and where that is not enough, after slashes.
    """
    for wrapper in (textwrap.TextWrapper, _SlashWrapper) if room >= 1 else ():
        wrap = wrapper(room, break_long_words=False, break_on_hyphens=False).wrap
        fitting: list[tuple[str, ...]] = []
        for name in names:
            lines = tuple(wrap(name))
            if len(lines) > MAX_LABEL_LINES or max(map(len, lines), default=0) > room:
                break
            fitting.append(lines)
        else:
            return fitting
    return []


def break_labels(names: Sequence[str], room: int) -> list[tuple[str, ...]]:
    """The lines of each name, of at most ``room`` characters: longer words are broken too, and nothing is left out."""
    return [tuple(_SlashWrapper(room, break_on_hyphens=False).wrap(name)) or ("",) for name in names]


def pixels(value: float) -> str:
    """A length as text, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
