"""What a fitted curve may hide: each trap by name, with what was seen. Thresholds leave clean curves alone.

A point is judged by the geometric mean of its repeats; where it has repeats, chance is ruled out at 95 % as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis.scaling import MIN_RANK_COUNTS, TRUSTED_FROM, CannotFit, Fit, fit
from reports.analysis.stats import estimate, ratio

SUPERLINEAR_BY = 0.05
RETROGRADE_BY = 0.05
MISFIT_FROM = 0.1
OUTLIER_FROM = 0.1
OUTLIER_AT_THE_END_FROM = 0.25
OUTLIER_FACTOR = 4
MIN_RESIDUAL_FOR_OUTLIER = 0.03
"""Largest residual of the fit to all points: a point that is far off bends the curve away from the others."""
MIN_RANK_COUNTS_FOR_OUTLIER = 5
"""Different rank counts: with fewer any point can be explained away."""

Rates = Mapping[int, Sequence[float]]
"""Throughputs by rank count."""


def residuals(rates: Rates, fit_result: Fit) -> dict[int, float]:
    """By rank count, how far the mean of its repeats is from the model, as a share of the model."""
    return {
        ranks: estimate(repeats, "/s").value / fit_result.throughput(ranks) - 1
        for ranks, repeats in sorted(rates.items())
    }


def find_fit_flags(rates: Rates, fit_result: Fit) -> dict[str, str]:
    """Name and what was seen, for every trap that these points and this fit fall into."""
    seen: dict[str, str] = {}
    counts = sorted(rates)
    if counts[0] != 1:
        seen["no_baseline"] = f"nothing was measured at 1 rank: {counts[0]} stands in"
    if fit_result.model == "usl" and len(counts) < TRUSTED_FROM:
        seen["few_points"] = f"{len(counts)} rank counts for three parameters: the intervals are all there is to go by"
    seen |= _superlinear(rates, counts) | _retrograde(rates, counts)
    worst_at, worst = max(residuals(rates, fit_result).items(), key=lambda item: abs(item[1]))
    if abs(worst) > MISFIT_FROM:
        seen["misfit"] = f"the model is off by {worst:+.0%} at {worst_at} ranks: these points follow another law"
    if fit_result.at_bound:
        seen["at_bound"] = f"{' and '.join(fit_result.at_bound)} ended at the edge of what it may be"
    if fit_result.peak_ranks is not None and fit_result.peak_ranks > counts[-1]:
        seen["extrapolated_peak"] = (
            f"the peak at {fit_result.peak_ranks:.0f} ranks lies beyond the {counts[-1]} measured"
        )
    return seen | _outlier(rates, counts, fit_result)


def _superlinear(rates: Rates, counts: Sequence[int]) -> dict[str, str]:
    for ranks in counts[1:]:
        efficiency = ratio(rates[ranks], rates[counts[0]], factor=counts[0] / ranks, unit="1")
        if efficiency.value > 1 + SUPERLINEAR_BY and (efficiency.low is None or efficiency.low > 1):
            return {"superlinear": f"efficiency {efficiency.value:.0%} at {ranks} ranks: caches, or an unfair baseline"}
    return {}


def _retrograde(rates: Rates, counts: Sequence[int]) -> dict[str, str]:
    last = counts[-1]
    for ranks in counts[:-1]:
        kept = ratio(rates[last], rates[ranks])
        if kept.value < 1 - RETROGRADE_BY and (kept.high is None or kept.high < 1):
            return {"retrograde": f"{last} ranks give {kept.value:.0%} of the throughput of {ranks}"}
    return {}


def _outlier(rates: Rates, counts: Sequence[int], fit_result: Fit) -> dict[str, str]:
    """The one rank count without which all others fit, and which is far from where they say it should be."""
    if len(counts) < max(MIN_RANK_COUNTS_FOR_OUTLIER, MIN_RANK_COUNTS[fit_result.model] + 1):
        return {}
    if max(abs(residual) for residual in residuals(rates, fit_result).values()) < MIN_RESIDUAL_FOR_OUTLIER:
        return {}
    for ranks in counts:
        others = {count: repeats for count, repeats in rates.items() if count != ranks}
        try:
            without = fit([(count, rate) for count, repeats in others.items() for rate in repeats], fit_result.model)
        except CannotFit:
            continue
        deviation = residuals({ranks: rates[ranks]}, without)[ranks]
        rest = max(abs(residual) for residual in residuals(others, without).values())
        # Beyond the other points a model only guesses.
        allowed = OUTLIER_AT_THE_END_FROM if ranks in (counts[0], counts[-1]) else OUTLIER_FROM
        if abs(deviation) > allowed and abs(deviation) > OUTLIER_FACTOR * rest:
            return {"outlier": f"{ranks} ranks are {deviation:+.0%} from where all other points say they should be"}
    return {}
