"""How large a difference has to be at each of several looks at growing data, so that all looks together err rarely.

At look k of K the standardized difference has to exceed c (k ÷ K)^(Δ - ½): the boundaries of Wang and Tsiatis (1987,
doi:10.2307/2531959), with Pocock's at Δ = ½ and O'Brien and Fleming's at Δ = 0. The constant c follows from the joint
distribution of the differences, which have independent increments, by numerical integration from look to look
(Armitage, McPherson and Rowe 1969, doi:10.2307/2343787).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

SHAPE = 1 / 3
"""Δ. The first looks, at which the noise is known least, are the strictest; the last is not much stricter than a single
look would be."""
MANY_LOOKS = 30
MOST_INTEGRATED = 1000
"""The integration takes time that grows faster than the number of looks. Beyond this many the constant is extrapolated:
what it lacks to that of looks without end shrinks with the root of their number."""
STEP, STEP_OF_MANY = 0.05, 0.2
"""Of the grid of the integration, in standard deviations of one increment."""
WIDTH = 8.0
"""The half width of the grid, and of the normal distribution, in standard deviations."""


class Looks(NamedTuple):
    """The looks at one comparison."""

    error: float
    """The probability that any of them misses the truth on one given side."""
    most: int
    """How many there are at most."""

    def level(self, look: int) -> float:
        """The probability that one of them, counted from 1, does (pure). Later ones than planned count as the last."""
        share = min(look, self.most) / self.most
        return _beyond(_constant(self.error, self.most) * share ** (SHAPE - 0.5))


def _beyond(quantile: float) -> float:
    """The probability that a standard normal variable exceeds it."""
    return 0.5 * math.erfc(quantile / math.sqrt(2))


@lru_cache(maxsize=256)
def _constant(error: float, looks: int) -> float:
    from scipy.optimize import brentq

    if looks > MOST_INTEGRATED:
        last, quarter = _constant(error, MOST_INTEGRATED), _constant(error, MOST_INTEGRATED // 4)
        return last + (last - quarter) * (1 - math.sqrt(MOST_INTEGRATED / looks))
    low, high = 0.0, 8.0
    return float(brentq(lambda constant: crossing_probability(constant, looks) - error, low, high, xtol=1e-3))


def crossing_probability(constant: float, looks: int) -> float:
    """How likely a difference of nothing exceeds the boundary with this constant at any of the looks (pure)."""
    import numpy as np

    numbers = np.arange(1, looks + 1)
    # Of sums: the sum of k increments has a standard deviation of √k.
    limits = constant * (numbers / looks) ** (SHAPE - 0.5) * np.sqrt(numbers)
    step = STEP if looks <= MANY_LOOKS else STEP_OF_MANY
    sums = np.arange(-WIDTH * math.sqrt(looks), float(limits.max()) + WIDTH, step)
    increment = np.exp(-(np.arange(-WIDTH, WIDTH + step, step) ** 2) / 2) * (step / math.sqrt(2 * math.pi))
    density = np.exp(-(sums**2) / 2) / math.sqrt(2 * math.pi)
    crossed = 0.0
    for number, limit in enumerate(limits):
        if number:
            density = np.convolve(density, increment, "same")
        # The limit divides one step of the grid.
        beyond = np.clip((sums - limit) / step + 0.5, 0.0, 1.0)
        crossed += float((density * beyond).sum()) * step
        density *= 1 - beyond
    return crossed
