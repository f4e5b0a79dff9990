"""Two things measured in turns, so that what changes on the machine meanwhile changes both."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of all pairs and its 95 % interval (bootstrap over pairs)."""

    median: float
    low: float
    high: float
    ratios: tuple[float, ...]


def alternating_ratio(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> Ratio:
    """Call two measurements in turns and compare them: ours ÷ theirs.

    Args:
        ours: Takes one measurement and returns it, in any unit: seconds, steps per second.
        theirs: Likewise, in the same unit.
        pairs: How often each is called. Which of the two goes first alternates.
    """
    ratios = []
    for pair in range(pairs):
        if pair % 2:
            their, our = theirs(), ours()
        else:
            our, their = ours(), theirs()
        ratios.append(our / their)
    return summarize(ratios)


def summarize(ratios: Sequence[float]) -> Ratio:
    """The median of measured ratios with its interval (pure: the resampling has a fixed seed)."""
    choose = random.Random(0)
    medians = sorted(statistics.median(choose.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
    return Ratio(statistics.median(ratios), low, high, tuple(ratios))
