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
from typing import Literal

import numpy as np

from reports.analysis.stats import student_t
from reports.verdicts.robust import Array, location
from reports.verdicts.rule import Rule

Answer = Literal["slower", "faster", "unchanged", "more", "undecided"]
"""``more``: the next look is not reached. ``undecided``: the last look gave no answer."""

TUNING = 2.0
SMALLEST = 0.01
"""ln of the smallest slowdown that is worth an extra trial."""
ORDINARY = 0.04
"""ln of the slowdown a suspicion is tried against, unless the series' noise is much smaller or larger."""
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

    @property
    def interval(self) -> tuple[float, float]:
        """95 %; of ln(head ÷ base)."""
        half = student_t(self.used + 5) * self.error
        return self.change - half, self.change + half


def confirm(pairs: Sequence[float], trial_scale: float, rule: Rule) -> Decision:
    """``pairs``: ln(head ÷ base) in the order they were run; ``trial_scale``: of a trial's log within a night."""
    found = confirm_all(np.asarray([pairs], dtype=float).reshape(1, -1), np.asarray([trial_scale]), rule)
    return found[0]


def confirm_all(pairs: Array, trial_scale: Array, rule: Rule) -> list[Decision]:
    """Of many series at once: ``pairs`` (series, pairs), ``trial_scale`` (series,)."""
    series, there = pairs.shape
    decided: list[Decision | None] = [None] * series
    open_ones = np.arange(series)
    for look in rule.looks:
        if look > there or not len(open_ones):
            break
        change, error = mean_of_pairs(pairs[open_ones, :look], trial_scale[open_ones], rule)
        answers = _answers(change, error, look, trial_scale[open_ones], rule)
        for place, answer, one, two in zip(open_ones, answers, change, error, strict=True):
            final = "undecided" if answer == "more" and look == rule.looks[-1] else answer
            if final != "more":
                decided[place] = Decision(final, float(one), float(two), look, 0)
        open_ones = np.asarray([place for place in open_ones if decided[place] is None], dtype=int)
    if len(open_ones):
        wanted = next((look for look in rule.looks if look > there), rule.looks[-1])
        if there:
            change, error = mean_of_pairs(pairs[open_ones], trial_scale[open_ones], rule)
        else:
            change = error = np.full(len(open_ones), np.nan)
        for place, one, two in zip(open_ones, change, error, strict=True):
            decided[place] = Decision("more", float(one), float(two), there, wanted)
    return [one for one in decided if one is not None]


def mean_of_pairs(pairs: Array, trial_scale: Array, rule: Rule) -> tuple[Array, Array]:
    """Robust mean and its standard error. Shapes (series, pairs), (series,) → (series,), (series,).

    The error is Huber's (ψ² ÷ ψ'²), its scale what the history foretells together with what the pairs show.
    """
    foretold = np.sqrt(2.0) * trial_scale
    count = pairs.shape[1]
    # With few pairs the history's scale alone says what is wild.
    mean = location(pairs, foretold, TUNING)
    off = np.abs(pairs - mean[:, None])
    reach = TUNING * foretold[:, None]
    squares = (np.minimum(off, reach) ** 2).sum(-1)
    variance = (rule.prior_pairs * foretold**2 + squares) / (rule.prior_pairs + count - 1)
    inside = (rule.prior_pairs + (off <= reach).sum(-1)) / (rule.prior_pairs + count)
    return mean, np.sqrt(variance / count) / inside


def _answers(change: Array, error: Array, look: int, trial_scale: Array, rule: Rule) -> list[Answer]:
    boundary = rule.boundary(look)
    z = change / error
    noise = error * np.sqrt(look)
    sought = np.maximum(np.minimum(BELOW_ORDINARY * noise, ORDINARY), ABOVE_ORDINARY * noise).clip(min=SMALLEST)
    likelihood = sought / error**2 * (change - sought / 2)
    dropped = likelihood < np.log(rule.doubt)
    return [
        "slower" if one > boundary else "faster" if one < -boundary else "unchanged" if drop else "more"
        for one, drop in zip(z, dropped, strict=True)
    ]
