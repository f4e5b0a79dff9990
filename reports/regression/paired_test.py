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
from reports.regression.robust import Array, location, scaled_mad
from reports.regression.rule import Rule

Answer = Literal["slower", "faster", "unchanged", "more", "undecided"]
"""``more``: the next look is not reached. ``undecided``: the last look gave no answer."""

PAIR_HUBER_K = 2.0
MIN_LOG_CHANGE = 0.01
"""ln of the smallest change that is worth a trial, and a word: a memory peak may differ by less, and surely."""
TYPICAL_LOG_SLOWDOWN = 0.04
"""ln of the slowdown a suspicion is tried against, unless the series' noise is much smaller or larger."""
NEGLIGIBLE_Z = 3.0
"""Standard errors below :data:`MIN_LOG_CHANGE` at which a change is no longer followed."""
MIN_PAIR_ERROR = 1e-4
"""Pairs that happen to be equal are not known without error."""
LOOK_ALPHA = 2e-4
"""One-sided error of a look by Student's t, where only the pairs themselves tell their scale."""
MIN_PAIRS_FOR_MAD = 6
MAX_SCALE_RATIO_FEW, MAX_SCALE_RATIO = 2.5, 1.6
"""Times what the history foretells: the spread of few pairs, and of enough of them, beyond which it isn't believed."""
UPPER_NOISE_FACTOR, LOWER_NOISE_FACTOR = 1.4, 0.9
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
    decisions = confirm_all(np.asarray([pairs], dtype=float).reshape(1, -1), np.asarray([scale]), rule)
    return decisions[0]


def confirm_all(pairs: Array, scale: Array, rule: Rule) -> list[Decision]:
    """Of many series at once: ``pairs`` (series, pairs), ``scale`` (series,)."""
    series, pair_count = pairs.shape
    no_decision = Decision("more", float("nan"), float("nan"), 0, rule.looks[0])
    decisions = [no_decision] * series
    open_rows = np.arange(series)
    for look in sorted({look for look in (*rule.looks, pair_count) if 0 < look <= min(pair_count, rule.looks[-1])}):
        for row, decision in zip(
            open_rows, _evaluate_look(pairs[open_rows, :look], scale[open_rows], rule), strict=True
        ):
            decisions[row] = decision
        open_rows = np.asarray([row for row in open_rows if decisions[row].answer == "more"], dtype=int)
        if not len(open_rows):
            break
    return decisions


def _evaluate_look(pairs: Array, scale: Array, rule: Rule) -> list[Decision]:
    """What so many pairs say; between two looks only that more are wanted."""
    count = pairs.shape[1]
    trusted_scale = _trusted_scale(pairs, scale)
    change, error = mean_of_pairs(pairs, trusted_scale, rule)
    freedom = np.where(np.isnan(trusted_scale), 0, int(rule.prior_pairs)) + max(count - 1, 1)
    if count in rule.looks:
        agree = _pairs_agree(pairs, change) & (np.abs(change) >= MIN_LOG_CHANGE)
        answers = _answers(change, error, agree, count, trusted_scale, rule)
    else:
        answers = ["more"] * len(change)
    wanted = next((look for look in rule.looks if look > count), 0)
    last = count == rule.looks[-1]
    return [
        Decision(
            "undecided" if last and answer == "more" else answer,
            float(value),
            float(deviation),
            count,
            wanted if answer == "more" else 0,
            int(free),
        )
        for answer, value, deviation, free in zip(answers, change, error, freedom, strict=True)
    ]


def _trusted_scale(pairs: Array, scale: Array) -> Array:
    """The scale that the history foretells; NaN where these pairs are far wilder: then they speak for themselves."""
    count = pairs.shape[1]
    if count < 2:
        return scale
    few = count < MIN_PAIRS_FOR_MAD
    shown = pairs.std(-1, ddof=1) if few else scaled_mad(pairs)
    return np.where(shown > (MAX_SCALE_RATIO_FEW if few else MAX_SCALE_RATIO) * scale, np.nan, scale)


def mean_of_pairs(pairs: Array, scale: Array, rule: Rule) -> tuple[Array, Array]:
    """Robust mean and its standard error. Shapes (series, pairs), (series,) → (series,), (series,).

    The error is Huber's (ψ² ÷ ψ'²), its scale what the history foretells together with what the pairs show.
    """
    count = pairs.shape[1]
    known = ~np.isnan(scale)
    sample_scale = np.maximum(pairs.std(-1, ddof=1), MIN_PAIR_ERROR) if count > 1 else np.full(len(pairs), 1.0)
    prior_scale = np.where(known, scale, sample_scale)
    weight = np.where(known, rule.prior_pairs, 0.0)
    mean = location(pairs, prior_scale, PAIR_HUBER_K)
    distance = np.abs(pairs - mean[:, None])
    clip_limit = PAIR_HUBER_K * prior_scale[:, None]
    squares = (np.minimum(distance, clip_limit) ** 2).sum(-1)
    variance = (weight * prior_scale**2 + squares) / np.maximum(weight + count - 1, 1)
    inside = (weight + (distance <= clip_limit).sum(-1)) / (weight + count)
    return mean, np.maximum(np.sqrt(variance / count) / inside, MIN_PAIR_ERROR / np.sqrt(count))


@lru_cache
def one_sided_t(freedom: int) -> float:
    """Student's t that is exceeded with probability :data:`LOOK_ALPHA`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - LOOK_ALPHA))


def _pairs_agree(pairs: Array, change: Array) -> np.ndarray:
    """Whether the pairs show the change, each by a third of it: all of the first four, then one of every two more.

    A few runs that something else slowed can all fall on one side while pairs are few.
    """
    shown = np.sign(change)[:, None] * pairs > np.abs(change)[:, None] / 3
    return np.asarray(shown.sum(-1) >= pairs.shape[1] - max(0, (pairs.shape[1] - 4) // 2))


def _answers(change: Array, error: Array, agree: np.ndarray, look: int, scale: Array, rule: Rule) -> list[Answer]:
    boundary = np.where(np.isnan(scale), max(rule.boundary(look), one_sided_t(look - 1)), rule.boundary(look))
    z = change / error
    noise = error * np.sqrt(look)
    target_change = np.maximum(
        np.minimum(UPPER_NOISE_FACTOR * noise, TYPICAL_LOG_SLOWDOWN), LOWER_NOISE_FACTOR * noise
    ).clip(min=MIN_LOG_CHANGE)
    likelihood = target_change / error**2 * (change - target_change / 2)
    small = change + NEGLIGIBLE_Z * error < MIN_LOG_CHANGE
    dropped = small | ((likelihood < np.log(rule.doubt)) & (z < boundary))
    return [
        "slower" if direction > 0 else "faster" if direction < 0 else "unchanged" if drop else "more"
        for direction, drop in zip(agree * ((z > boundary).astype(int) - (z < -boundary)), dropped, strict=True)
    ]
