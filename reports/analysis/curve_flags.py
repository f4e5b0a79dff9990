"""Flags of one curve of throughputs over rank counts: measured points, or a fit to them, that mislead.

The thresholds do not flag clean curves. A point is judged by the geometric mean of its repeats; where it has repeats,
the deviation must also be significant at 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import changes, formatting
from reports.analysis.law_selection import Rates, points_of, residuals
from reports.analysis.laws import MIN_RANK_COUNTS
from reports.analysis.scaling import TRUSTED_FROM, CannotFit, Fit, fit
from reports.analysis.stats import ratio

SUPERLINEAR_BY = 0.05
RETROGRADE_BY = 0.05
MISFIT_FROM = 0.1
OUTLIER_FROM = 0.1
OUTLIER_AT_THE_END_FROM = 0.25
OUTLIER_FACTOR = 4
MIN_RESIDUAL_FOR_OUTLIER = 0.03
"""The largest residual of the fit to all points: an outlier bends the curve away from the other points."""
MIN_RANK_COUNTS_FOR_OUTLIER = 5
"""Rank counts: with fewer, any point may fit a curve through the others."""


def find_point_flags(rates: Rates) -> dict[str, str]:
    """The flags of measured points, whatever the law: a description by name."""
    counts = sorted(rates)
    flags = {}
    if counts[0] != 1:
        flags["no_baseline"] = f"no measurement at 1 rank: speed-up starts from {counts[0]} ranks"
    return flags | _superlinear(rates, counts) | _retrograde(rates, counts)


def find_fit_flags(rates: Rates, fit_result: Fit) -> dict[str, str]:
    """The flags of a fit to these points: a description by name."""
    flags: dict[str, str] = {}
    counts = sorted(rates)
    if fit_result.model == "usl" and len(counts) < TRUSTED_FROM:
        flags["few_points"] = f"three parameters fitted to {len(counts)} rank counts: read their intervals"
    worst_at, worst = max(residuals(rates, fit_result).items(), key=lambda item: abs(item[1]))
    if abs(worst) > MISFIT_FROM:
        flags["misfit"] = f"poor fit: {changes.multiple(worst)} off the fitted law at {formatting.ranks(worst_at)}"
    if fit_result.at_bound:
        flags["at_bound"] = f"the fit of {' and '.join(fit_result.at_bound)} ended at a bound of its range"
    if fit_result.peak_ranks is not None and fit_result.peak_ranks > counts[-1]:
        flags["extrapolated_peak"] = (
            f"the peak at {formatting.ranks(round(fit_result.peak_ranks))} is extrapolated from at most {counts[-1]}"
        )
    return flags | _outlier(rates, counts, fit_result)


def _superlinear(rates: Rates, counts: Sequence[int]) -> dict[str, str]:
    for ranks in counts[1:]:
        efficiency = ratio(rates[ranks], rates[counts[0]], factor=counts[0] / ranks, unit="1")
        if efficiency.value > 1 + SUPERLINEAR_BY and (efficiency.low is None or efficiency.low > 1):
            reached = formatting.share(efficiency.value)
            return {"superlinear": f"efficiency {reached} at {ranks} ranks: caching or an unfair baseline"}
    return {}


def _retrograde(rates: Rates, counts: Sequence[int]) -> dict[str, str]:
    last = counts[-1]
    for ranks in counts[:-1]:
        kept = ratio(rates[last], rates[ranks])
        if kept.value < 1 - RETROGRADE_BY and (kept.high is None or kept.high < 1):
            return {"retrograde": f"{last} ranks give {formatting.share(kept.value)} of the throughput of {ranks}"}
    return {}


def _outlier(rates: Rates, counts: Sequence[int], fit_result: Fit) -> dict[str, str]:
    """The rank count without which all others fit, if it is far from what a fit to the others predicts."""
    if len(counts) < max(MIN_RANK_COUNTS_FOR_OUTLIER, MIN_RANK_COUNTS[fit_result.model] + 1):
        return {}
    if max(abs(residual) for residual in residuals(rates, fit_result).values()) < MIN_RESIDUAL_FOR_OUTLIER:
        return {}
    for ranks in counts:
        others = {count: repeats for count, repeats in rates.items() if count != ranks}
        try:
            without = fit(points_of(others), fit_result.model)
        except CannotFit:
            continue
        deviation = residuals({ranks: rates[ranks]}, without)[ranks]
        rest = max(abs(residual) for residual in residuals(others, without).values())
        # At the ends the fit to the other points extrapolates.
        allowed = OUTLIER_AT_THE_END_FROM if ranks in (counts[0], counts[-1]) else OUTLIER_FROM
        if abs(deviation) > allowed and abs(deviation) > OUTLIER_FACTOR * rest:
            are = "is" if ranks == 1 else "are"
            off = f"{changes.multiple(deviation)} off a fit to all other points"
            return {"outlier": f"{formatting.ranks(ranks)} {are} {off}"}
    return {}
