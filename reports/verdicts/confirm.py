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
ENOUGH_PAIRS = 6
WILDER_FEW, WILDER = 2.5, 1.6
"""Times what the history foretells: the spread of few pairs, and of enough of them, beyond which it isn't believed."""
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
    nothing = Decision("more", float("nan"), float("nan"), 0, rule.looks[0])
    found = [nothing] * series
    going_on = np.arange(series)
    for look in sorted({look for look in (*rule.looks, there) if 0 < look <= min(there, rule.looks[-1])}):
        for place, one in zip(going_on, _look(pairs[going_on, :look], scale[going_on], rule), strict=True):
            found[place] = one
        going_on = np.asarray([place for place in going_on if found[place].answer == "more"], dtype=int)
        if not len(going_on):
            break
    return found


def _look(pairs: Array, scale: Array, rule: Rule) -> list[Decision]:
    """What so many pairs say; between two looks only that more are wanted."""
    count = pairs.shape[1]
    believed = _believed(pairs, scale)
    change, error = mean_of_pairs(pairs, believed, rule)
    freedom = np.where(np.isnan(believed), 0, int(rule.prior_pairs)) + max(count - 1, 1)
    if count in rule.looks:
        agreed = _agreed(pairs, change) & (np.abs(change) >= SMALLEST)
        answers = _answers(change, error, agreed, count, believed, rule)
    else:
        answers = ["more"] * len(change)
    wanted = next((look for look in rule.looks if look > count), 0)
    last = count == rule.looks[-1]
    return [
        Decision("undecided" if last and answer == "more" else answer, float(value), float(deviation), count,
                 wanted if answer == "more" else 0, int(free))
        for answer, value, deviation, free in zip(answers, change, error, freedom, strict=True)
    ]  # fmt: skip


def _believed(pairs: Array, scale: Array) -> Array:
    """The scale that the history foretells; NaN where these pairs are far wilder: then they speak for themselves."""
    count = pairs.shape[1]
    if count < 2:
        return scale
    few = count < ENOUGH_PAIRS
    shown = pairs.std(-1, ddof=1) if few else spread(pairs)
    return np.where(shown > (WILDER_FEW if few else WILDER) * scale, np.nan, scale)


def mean_of_pairs(pairs: Array, scale: Array, rule: Rule) -> tuple[Array, Array]:
    """Robust mean and its standard error. Shapes (series, pairs), (series,) → (series,), (series,).

    The error is Huber's (ψ² ÷ ψ'²), its scale what the history foretells together with what the pairs show.
    """
    count = pairs.shape[1]
    known = ~np.isnan(scale)
    own = np.maximum(pairs.std(-1, ddof=1), UNKNOWN_AT_LEAST) if count > 1 else np.full(len(pairs), 1.0)
    foretold = np.where(known, scale, own)
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
