"""Confirmation: interleaved pairs of head and base, looked at as they come, until one answer is clear.

A pair gives ln(head ÷ base): whatever the machine does to both sides alike cancels. At each look the robust mean of
the pairs is held against a boundary that early looks find harder to pass (a group-sequential test; Wang and Tsiatis
1987, doi:10.2307/2531959), and the suspicion is dropped where a slowdown worth finding has become unlikely (Wald's
sequential probability ratio test, 1945, doi:10.1214/aoms/1177731118). More pairs continue the same test: a decision
depends on the pairs up to the look at which it fell, and on none after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from reports.analysis.stats import student_t
from reports.verdicts.robust import Array, location, spread
from reports.verdicts.rule import Rule

Answer = Literal["slower", "faster", "unchanged", "more", "undecided"]
"""``more``: the next look is not reached. ``undecided``: the last look gave no answer."""

TUNING = 2.0
SMALLEST = 0.01
"""ln of the smallest change that is worth a trial, and a word: a memory peak may differ by less, and surely."""
ORDINARY = 0.04
"""ln of the slowdown a suspicion is tried against, unless the series' noise is much smaller or larger."""
SURELY = 3.0
"""Standard errors below :data:`SMALLEST` at which a change is no longer followed."""
UNKNOWN_AT_LEAST = 1e-4
"""Pairs that happen to be equal are not known without error."""
PER_LOOK = 2e-4
"""One-sided error of a look by Student's t, where only the pairs themselves tell their scale."""
ENOUGH_PAIRS, WILDER = 6, 1.5
"""From so many pairs on their own spread counts, where it is so many times what the history foretells."""
BELOW_ORDINARY, ABOVE_ORDINARY = 1.4, 0.9
"""Times the noise of a pair."""


@dataclass(frozen=True)
class Decision:
    """What the pairs say: ln(head ÷ base) with its standard error, and the answer."""

    answer: Answer
    change: float
    error: float
    used: int
    """Pairs the decision rests on."""
    wanted: int
    """Pairs in all up to the next look; 0 when it is decided."""
    freedom: int = 1
    """Degrees of freedom behind the error."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 %; of ln(head ÷ base)."""
        half = student_t(self.freedom) * self.error
        return self.change - half, self.change + half


def confirm(pairs: Sequence[float], scale: float, rule: Rule) -> Decision:
    """``pairs``: ln(head ÷ base) in the order they were run; ``scale``: their standard deviation as the history
    foretells it, NaN where nothing does: the pairs are then judged by their own, and early looks need more."""
    found = confirm_all(np.asarray([pairs], dtype=float).reshape(1, -1), np.asarray([scale]), rule)
    return found[0]


def confirm_all(pairs: Array, scale: Array, rule: Rule) -> list[Decision]:
    """Of many series at once: ``pairs`` (series, pairs), ``scale`` (series,)."""
    series, there = pairs.shape
    prior = np.where(np.isnan(scale), 0, int(rule.prior_pairs))
    decided: list[Decision | None] = [None] * series
    open_ones = np.arange(series)
    for look in rule.looks:
        if look > there or not len(open_ones):
            break
        change, error = mean_of_pairs(pairs[open_ones, :look], scale[open_ones], rule)
        agreed = _agreed(pairs[open_ones, :look], change)
        answers = _answers(change, error, agreed & (np.abs(change) >= SMALLEST), look, scale[open_ones], rule)
        for place, answer, one, two in zip(open_ones, answers, change, error, strict=True):
            final = "undecided" if answer == "more" and look == rule.looks[-1] else answer
            if final != "more":
                decided[place] = Decision(final, float(one), float(two), look, 0, int(prior[place]) + look - 1)
        open_ones = np.asarray([place for place in open_ones if decided[place] is None], dtype=int)
    if len(open_ones):
        wanted = next((look for look in rule.looks if look > there), rule.looks[-1])
        if there:
            change, error = mean_of_pairs(pairs[open_ones], scale[open_ones], rule)
        else:
            change = error = np.full(len(open_ones), np.nan)
        for place, one, two in zip(open_ones, change, error, strict=True):
            freedom = max(int(prior[place]) + there - 1, 1)
            decided[place] = Decision("more", float(one), float(two), there, wanted, freedom)
    return [one for one in decided if one is not None]


def mean_of_pairs(pairs: Array, scale: Array, rule: Rule) -> tuple[Array, Array]:
    """Robust mean and its standard error. Shapes (series, pairs), (series,) → (series,), (series,).

    The error is Huber's (ψ² ÷ ψ'²), its scale what the history foretells together with what the pairs show.
    """
    count = pairs.shape[1]
    known = ~np.isnan(scale)
    shown = spread(pairs)
    # A few pairs can't say what is wild: the history does, unless many of them are far wilder than it foretells.
    own = np.maximum(pairs.std(-1, ddof=1), UNKNOWN_AT_LEAST) if count > 1 else np.full(len(pairs), 1.0)
    wilder = (count >= ENOUGH_PAIRS) & (shown > WILDER * np.where(known, scale, np.inf))
    foretold = np.where(known, np.where(wilder, shown, scale), own)
    weight = np.where(known, rule.prior_pairs, 0.0)
    mean = location(pairs, foretold, TUNING)
    off = np.abs(pairs - mean[:, None])
    reach = TUNING * foretold[:, None]
    squares = (np.minimum(off, reach) ** 2).sum(-1)
    variance = (weight * foretold**2 + squares) / np.maximum(weight + count - 1, 1)
    inside = (weight + (off <= reach).sum(-1)) / (weight + count)
    return mean, np.maximum(np.sqrt(variance / count) / inside, UNKNOWN_AT_LEAST / np.sqrt(count))


@lru_cache
def student(freedom: int) -> float:
    """Student's t that is exceeded with probability :data:`PER_LOOK`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - PER_LOOK))


def _agreed(pairs: Array, change: Array) -> np.ndarray:
    """Whether the pairs show the change, each by a third of it: all of the first four, then one of every two more.

    A few runs that something else slowed can all fall on one side while pairs are few.
    """
    shown = np.sign(change)[:, None] * pairs > np.abs(change)[:, None] / 3
    return np.asarray(shown.sum(-1) >= pairs.shape[1] - max(0, (pairs.shape[1] - 4) // 2))


def _answers(change: Array, error: Array, agreed: np.ndarray, look: int, scale: Array, rule: Rule) -> list[Answer]:
    boundary = np.where(np.isnan(scale), max(rule.boundary(look), student(look - 1)), rule.boundary(look))
    z = change / error
    noise = error * np.sqrt(look)
    sought = np.maximum(np.minimum(BELOW_ORDINARY * noise, ORDINARY), ABOVE_ORDINARY * noise).clip(min=SMALLEST)
    likelihood = sought / error**2 * (change - sought / 2)
    small = change + SURELY * error < SMALLEST
    dropped = small | ((likelihood < np.log(rule.doubt)) & (z < boundary))
    return [
        "slower" if sure > 0 else "faster" if sure < 0 else "unchanged" if drop else "more"
        for sure, drop in zip(agreed * ((z > boundary).astype(int) - (z < -boundary)), dropped, strict=True)
    ]
