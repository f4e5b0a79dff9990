"""What the project wants to reach, and what was measured: a table of ratios, times and sizes with their spreads.

    pytest tests/perf -m goal

measures all that has a goal on one machine, one after the other. Each ratio is of two things that take turns, and each
line of the table is of one run. The whole takes most of an hour; ``-k`` chooses. Nothing here asserts a time.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Values that were measured beside a goal.

    Args:
        what: The quantity, with its unit unless it is a ratio.
        values: One or more, of which the median counts.
        at_most, at_least: The goal; one of them is given.
    """

    what: str
    values: tuple[float, ...]
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"{self.what}: give either at_most or at_least")
        if not self.values:
            raise ValueError(f"{self.what}: nothing was measured")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def missed_by(self) -> float:
        """How far the median is beyond the goal, as a share of the goal; 0 where it is reached."""
        if self.at_most is not None:
            return max(0.0, self.median / self.at_most - 1)
        return max(0.0, 1 - self.median / self.at_least)

    def cells(self) -> tuple[str, ...]:
        """One row of the table."""
        sign, limit = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        spread = f"{min(self.values):.4g}–{max(self.values):.4g} of {len(self.values)}" if len(self.values) > 1 else ""
        answer = f"missed by {self.missed_by:.0%}" if self.missed_by else "reached"
        return self.what, f"{sign} {limit:.4g}", f"{self.median:.4g}", spread, answer


HEADINGS = ("measured", "goal", "median", "range", "")


def table(measured: Sequence[Measured]) -> list[str]:
    """Lines of a table, its columns aligned."""
    rows = [HEADINGS, *(one.cells() for one in measured)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
