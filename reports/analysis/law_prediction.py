"""Predictions by scaling laws: a weighted mean of all laws that describe a curve, with a calibrated interval.

A curve of a few rank counts does not tell which law goes on. So each law is tested on the curve itself: fitted to its
first k rank counts, for k = 2 and more, it predicts the next one. With ε² the mean square of these errors, laws are
averaged in ln X with weights 1 ÷ (ε² + 0.01²) (Bates and Granger 1969, doi:10.1057/jors.1969.103); 0.01, since errors
of throughput below 1 % do not tell laws apart.

A measured curve deviates from any law, and its deviations persist: they are modelled as a random walk in log₂ N, so
that a law is applied relative to the measurements around N, and beyond the last one relative to that. The 95 % interval
for one further measurement is

    ln X ± √(d·(q² + (1.96·ε)²) + (t(0.975, f)·s)²·(1 + 1/n))

with the variance d of the walk in doublings (log₂(N ÷ largest N) beyond the measured range; between two counts that
of a Brownian bridge), ε² the weighted mean of the laws', s the scatter of n repeats with f degrees of freedom. q is the
only constant that is fitted to data: the error at the next doubling that 95 % of published curves stay below
(:mod:`reports.analysis.law_accuracy`), since two or three errors of the curve itself say little about a limit that only
more ranks meet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from reports.analysis.law_selection import Rates, points_of
from reports.analysis.laws import PARAMETER_COUNT, ScalingLaw
from reports.analysis.scaling import Fit, FitMethod, Prediction, fit, log_interval
from reports.analysis.stats import estimate, student_t

INDISTINCT = 0.01
"""Errors of ln X below it do not tell laws apart."""
DOUBLING_ERROR = 0.274
"""q, in ln X: see the module."""
NORMAL_QUANTILE = 1.96
MIN_COUNTS_FOR_BACKTEST = 2


@dataclass(frozen=True)
class LawPrediction:
    """The laws that describe a curve, weighted."""

    fits: Mapping[ScalingLaw, Fit]
    weights: Mapping[ScalingLaw, float]
    means: Mapping[int, float]
    """The measured throughput by rank count, the fewest first."""
    backtest_error: float
    """ε: of ln X over one doubling."""
    scatter: float
    """s: of ln X over the repeats of a rank count."""
    degrees_of_freedom: int
    """f: of the scatter."""
    fewest_repeats: int
    """n: of any rank count."""

    def predict(self, ranks: int, doubling_error: float = DOUBLING_ERROR) -> Prediction:
        """Predict the throughput at a rank count, with an interval where the error there is known."""
        expected = math.exp(
            sum(weight * log_throughput(self.fits[law], self.means, ranks) for law, weight in self.weights.items())
        )
        walk = walk_variance(list(self.means), ranks) * (
            doubling_error**2 + (NORMAL_QUANTILE * self.backtest_error) ** 2
        )
        chance = student_t(self.degrees_of_freedom) * self.scatter if self.degrees_of_freedom else 0.0
        half = math.sqrt(walk + chance**2 * (1 + 1 / self.fewest_repeats))
        low, high = log_interval(expected, half) if half else (None, None)
        return Prediction(ranks=ranks, throughput=expected, low=low, high=high, extrapolated=ranks > max(self.means))


def weigh_laws(rates: Rates, fits: Mapping[ScalingLaw, Fit], method: FitMethod = "log") -> LawPrediction:
    """Weigh the laws that describe a curve (:func:`reports.analysis.law_selection.describing_laws`)."""
    mean_squares = {law: fmean(error**2 for error in backtest_errors(rates, law, method)) for law in fits}
    precisions = {law: 1 / (mean_square + INDISTINCT**2) for law, mean_square in mean_squares.items()}
    weights = {law: precision / sum(precisions.values()) for law, precision in precisions.items()}
    deviations = [[math.log(rate / estimate(repeats, "/s").value) for rate in repeats] for repeats in rates.values()]
    freedom = sum(len(repeats) - 1 for repeats in deviations)
    squares = sum(deviation**2 for repeats in deviations for deviation in repeats)
    return LawPrediction(
        fits=fits,
        weights=weights,
        means=means_of(rates),
        backtest_error=math.sqrt(sum(weights[law] * mean_square for law, mean_square in mean_squares.items())),
        scatter=math.sqrt(squares / freedom) if freedom else 0.0,
        degrees_of_freedom=freedom,
        fewest_repeats=min(map(len, rates.values())),
    )


def backtest_errors(rates: Rates, law: ScalingLaw, method: FitMethod = "log") -> list[float]:
    """The errors of ln X, over one doubling, at each rank count that the law predicts from the smaller ones."""
    counts = sorted(rates)
    errors = []
    for number in range(max(MIN_COUNTS_FOR_BACKTEST, PARAMETER_COUNT[law]), len(counts)):
        smaller = {ranks: rates[ranks] for ranks in counts[:number]}
        fitted = fit(points_of(smaller), law, method, fewest=PARAMETER_COUNT[law])
        ranks = counts[number]
        error = log_throughput(fitted, means_of(smaller), ranks) - math.log(estimate(rates[ranks], "/s").value)
        errors.append(error / math.sqrt(walk_variance(counts[:number], ranks)))
    return errors


def means_of(rates: Rates) -> dict[int, float]:
    """The geometric mean of the repeats by rank count, the fewest ranks first."""
    return {ranks: estimate(repeats, "/s").value for ranks, repeats in sorted(rates.items())}


def log_throughput(fit_result: Fit, means: Mapping[int, float], ranks: int) -> float:
    """ln X(N) of a law relative to the measurements: the law, times the deviation from it around N."""
    import numpy as np

    deviations = [math.log(mean / fit_result.throughput(count)) for count, mean in means.items()]
    around = float(np.interp(math.log2(ranks), [math.log2(count) for count in means], deviations))
    return math.log(fit_result.throughput(ranks)) + around


def walk_variance(counts: Sequence[int], ranks: int) -> float:
    """The variance at N, in doublings, of a random walk in log₂ N that is known at the measured rank counts."""
    if not counts[0] < ranks < counts[-1]:
        return max(0.0, math.log2(counts[0] / ranks), math.log2(ranks / counts[-1]))
    below, above = next((low, high) for low, high in pairwise(counts) if low <= ranks <= high)
    width = math.log2(above / below)
    return math.log2(ranks / below) * math.log2(above / ranks) / width
