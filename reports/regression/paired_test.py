"""The paired test: interleaved pairs of head and base, evaluated at planned looks until the answer is clear.

A pair gives ln(head ÷ base), in which effects of the machine on both sides cancel. At each look the robust mean of the
pairs is compared with a boundary that is higher at early looks (a group-sequential test; Wang and Tsiatis 1987,
doi:10.2307/2531959). The suspicion is dropped where a relevant slowdown has become unlikely (Wald's sequential
probability ratio test, 1945, doi:10.1214/aoms/1177731118). It starts from the odds that the screen gives, so that a
faint suspicion costs fewer pairs than a strong one; what is called a change is decided by the pairs alone. More pairs
continue the same test: a decision depends only on the pairs up to the look at which it was made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from reports.analysis.stats import student_t
from reports.regression.robust import Array, location, scaled_mad
from reports.regression.rule import Rule

Answer = Literal["slower", "faster", "unchanged", "more", "undecided"]
"""``more``: pairs are missing for the next look. ``undecided``: the last look gave no answer."""

PAIR_HUBER_K = 2.0
MIN_LOG_CHANGE = 0.01
"""Smallest relevant change, as ln: smaller ones are not reported even where they are significant."""
TYPICAL_LOG_SLOWDOWN = 0.04
"""Slowdown of the alternative hypothesis, as ln, unless the noise of the series is much smaller or larger."""
NEGLIGIBLE_Z = 3.0
"""Standard errors below :data:`MIN_LOG_CHANGE` at which a change is dropped as negligible."""
MIN_PAIR_ERROR = 1e-4
"""Lower bound of the standard deviation of pairs: equal pairs are no exact measurement."""
MIN_PAIRS_FOR_CHANGE = 3
"""Pairs below which nothing is called a change, and nothing is dropped where the scale is unknown."""
SLOWDOWN_Z = 4.6
"""The z in the screen of the slowdown that a suspicion is weighed against."""
SCREEN_WEIGHT = 1 / 3
"""Weight of the screen's log likelihood ratio: nights vary in ways that its normal distribution lacks."""
MAX_LOG_ODDS = 2.0
"""Bound of the log odds by the screen, on either side."""
LOOK_ALPHA = 2e-4
"""One-sided error of a look by Student's t, where the scale is estimated from the pairs alone."""
MIN_PAIRS_FOR_MAD = 6
MAX_SCALE_RATIO_FEW, MAX_SCALE_RATIO = 2.5, 1.6
"""Spread of the pairs (few, enough) relative to that expected from the history, above which the latter is ignored."""
UPPER_NOISE_FACTOR, LOWER_NOISE_FACTOR = 1.4, 0.9
"""Bounds of the alternative's slowdown, in standard deviations of a pair."""


@dataclass(frozen=True)
class Decision:
    """The answer of the pairs, with the mean ln(head ÷ base) and its standard error."""

    answer: Answer
    change: float
    error: float
    used: int
    """Pairs the decision is based on."""
    wanted: int
    """Total number of pairs needed for the next look; 0 where decided."""
    freedom: int = 1
    """Degrees of freedom of the error."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of ln(head ÷ base)."""
        half = student_t(self.freedom) * self.error
        return self.change - half, self.change + half


def confirm(pairs: Sequence[float], scale: float, rule: Rule, screen_z: float = math.nan) -> Decision:
    """Test the pairs of one series.

    Args:
        pairs: ln(head ÷ base) in the order in which the pairs were run.
        scale: Their standard deviation as expected from the history; NaN where unknown. It is then estimated from the
            pairs, and early looks need stronger evidence.
        rule: The looks and boundaries.
        screen_z: The z of the suspicion; NaN where no screen was possible.
    """
    rows = np.asarray([pairs], dtype=float).reshape(1, -1)
    return confirm_all(rows, np.asarray([scale]), rule, np.asarray([screen_z]))[0]


def confirm_all(pairs: Array, scale: Array, rule: Rule, screen_z: Array) -> list[Decision]:
    """Test many series at once: ``pairs`` has shape (series, pairs), the others (series,). See :func:`confirm`."""
    series, pair_count = pairs.shape
    log_odds = screen_log_odds(screen_z)
    no_decision = Decision("more", float("nan"), float("nan"), 0, rule.looks[0])
    decisions = [no_decision] * series
    open_rows = np.arange(series)
    for look in sorted({look for look in (*rule.looks, pair_count) if 0 < look <= min(pair_count, rule.looks[-1])}):
        for row, decision in zip(
            open_rows,
            _evaluate_look(pairs[open_rows, :look], scale[open_rows], log_odds[open_rows], rule),
            strict=True,
        ):
            decisions[row] = decision
        open_rows = np.asarray([row for row in open_rows if decisions[row].answer == "more"], dtype=int)
        if not len(open_rows):
            break
    return decisions


def screen_log_odds(screen_z: Array) -> Array:
    """Weighed log likelihood ratio of a slowdown to none, by the z of the screen; 0 where that is NaN."""
    likelihood = SLOWDOWN_Z * (screen_z - SLOWDOWN_Z / 2)
    return np.nan_to_num(np.clip(SCREEN_WEIGHT * likelihood, -MAX_LOG_ODDS, MAX_LOG_ODDS), nan=0.0)


def _evaluate_look(pairs: Array, scale: Array, log_odds: Array, rule: Rule) -> list[Decision]:
    """Decisions after these pairs; between two looks the answer is ``more``."""
    count = pairs.shape[1]
    trusted_scale = _trusted_scale(pairs, scale)
    change, error = mean_of_pairs(pairs, trusted_scale, rule)
    freedom = np.where(np.isnan(trusted_scale), 0, int(rule.prior_pairs)) + max(count - 1, 1)
    if count in rule.looks:
        is_enough = count >= MIN_PAIRS_FOR_CHANGE
        agree = _pairs_agree(pairs, change) & (np.abs(change) >= MIN_LOG_CHANGE) & is_enough
        may_drop = ~np.isnan(trusted_scale) | is_enough
        answers = _answers(change, error, agree, may_drop, count, trusted_scale, log_odds, rule)
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
    """The scale expected from the history; NaN where the pairs spread far more."""
    count = pairs.shape[1]
    if count < 2:
        return scale
    few = count < MIN_PAIRS_FOR_MAD
    shown = pairs.std(-1, ddof=1) if few else scaled_mad(pairs)
    return np.where(shown > (MAX_SCALE_RATIO_FEW if few else MAX_SCALE_RATIO) * scale, np.nan, scale)


def mean_of_pairs(pairs: Array, scale: Array, rule: Rule) -> tuple[Array, Array]:
    """Robust mean of the pairs and its standard error. Shapes (series, pairs), (series,) → (series,), (series,).

    The error is Huber's (ψ² ÷ ψ'²); its scale pools the one expected from the history with that of the pairs.
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
    """Quantile of Student's t that is exceeded with probability :data:`LOOK_ALPHA`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - LOOK_ALPHA))


def _pairs_agree(pairs: Array, change: Array) -> np.ndarray:
    """Whether single pairs show at least a third of the mean change: all of the first four, half of those beyond.

    With few pairs, outliers can all fall on one side by chance.
    """
    shown = np.sign(change)[:, None] * pairs > np.abs(change)[:, None] / 3
    return np.asarray(shown.sum(-1) >= pairs.shape[1] - max(0, (pairs.shape[1] - 4) // 2))


def _answers(
    change: Array,
    error: Array,
    agree: np.ndarray,
    may_drop: np.ndarray,
    look: int,
    scale: Array,
    log_odds: Array,
    rule: Rule,
) -> list[Answer]:
    boundary = np.where(np.isnan(scale), max(rule.boundary(look), one_sided_t(look - 1)), rule.boundary(look))
    z = change / error
    noise = error * np.sqrt(look)
    target_change = np.maximum(
        np.minimum(UPPER_NOISE_FACTOR * noise, TYPICAL_LOG_SLOWDOWN), LOWER_NOISE_FACTOR * noise
    ).clip(min=MIN_LOG_CHANGE)
    likelihood = target_change / error**2 * (change - target_change / 2)
    small = change + NEGLIGIBLE_Z * error < MIN_LOG_CHANGE
    dropped = may_drop & (small | ((log_odds + likelihood < np.log(rule.doubt)) & (z < boundary)))
    return [
        "slower" if direction > 0 else "faster" if direction < 0 else "unchanged" if drop else "more"
        for direction, drop in zip(agree * ((z > boundary).astype(int) - (z < -boundary)), dropped, strict=True)
    ]
