"""The paper of a figure: its size, its margins, and where on it values stand; pixels from its left and its top."""

from __future__ import annotations

import math

from reports.page.axes import x_axis, y_axis
from reports.page.values import Figure

HEIGHT, WIDTH, WIDE = 290, 370, 960
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 26
CHARACTER_PX = 6.4
"""Pixels that a character of a label takes, about."""
LABEL_ANGLE = -40
"""Degrees, of labels that are too long to stand side by side."""


class FigureLayout:
    """One figure's. ``max_label_chars``: so many of a label along the bottom fit."""

    def __init__(self, figure: Figure) -> None:
        self.x, self.y = x_axis(figure), y_axis(figure)
        self.width = WIDE if figure.wide else WIDTH
        self.right, self.bottom = self.width - RIGHT, HEIGHT - BOTTOM
        longest = max((len(name) for _, name in self.x.ticks), default=0)
        self.max_label_chars = longest
        self.slanted = len(self.x.ticks) * CHARACTER_PX * (longest + 1) > self.right - LEFT
        if self.slanted:
            # The first label, which leans to the left, must not lean out of the picture.
            self.max_label_chars = min(longest, int(self.across(self.x.ticks[0][0]) / (0.77 * CHARACTER_PX)))
            self.bottom -= round(0.64 * CHARACTER_PX * self.max_label_chars)

    def has(self, x: float, y: float) -> bool:
        """Whether there is such a place: a logarithm has none for 0, and no axis has one for what isn't finite."""
        finite = math.isfinite(x) and math.isfinite(y)
        return finite and (x > 0 or not self.x.log) and (y > 0 or not self.y.log)

    def across(self, x: float) -> float:
        return LEFT + self.x.at(x) * (self.right - LEFT)

    def down(self, y: float) -> float:
        # Far outside is as good as just outside, and shorter.
        return self.bottom - min(2.0, max(-1.0, self.y.at(y))) * (self.bottom - TOP)

    def place(self, x: float, y: float) -> str:
        return f"{pixels(self.across(x))} {pixels(self.down(y))}"


def ellipsize(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def pixels(value: float) -> str:
    """One decimal place: a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
