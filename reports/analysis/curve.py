"""One curve of throughputs over rank counts: its points, the fitted scaling law, and flags of a poor or misleading fit.

The thresholds of the flags do not flag clean curves. A point is judged by the geometric mean of its repeats; where it
has repeats, the deviation must also be significant at 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from bench.core.case import Scaling
from bench.core.frozen_model import FrozenModel
from reports.analysis.scaling import (
    MIN_RANK_COUNTS,
    TRUSTED_FROM,
    CannotFit,
    Fit,
    FitMethod,
    Parameter,
    Prediction,
    ScalingLaw,
    fit,
    fit_best,
    gustafson,
    karp_flatt,
    time_parts,
)
from reports.analysis.stats import Estimate, estimate, ratio, speedup_and_efficiency

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

Rates = Mapping[int, Sequence[float]]
"""Throughputs by rank count."""


def residuals(rates: Rates, fit_result: Fit) -> dict[int, float]:
    """The deviation of the mean of the repeats from the model, as a share of the model; by rank count."""
    return {
        ranks: estimate(repeats, "/s").value / fit_result.throughput(ranks) - 1
        for ranks, repeats in sorted(rates.items())
    }


def find_fit_flags(rates: Rates, fit_result: Fit) -> dict[str, str]:
    """The flags of these points and this fit: a description by name."""
    flags: dict[str, str] = {}
    counts = sorted(rates)
    if counts[0] != 1:
        flags["no_baseline"] = f"no measurement at 1 rank: speed-up starts from {counts[0]} ranks"
    if fit_result.model == "usl" and len(counts) < TRUSTED_FROM:
        flags["few_points"] = f"three parameters fitted to {len(counts)} rank counts: read their intervals"
    flags |= _superlinear(rates, counts) | _retrograde(rates, counts)
    worst_at, worst = max(residuals(rates, fit_result).items(), key=lambda item: abs(item[1]))
    if abs(worst) > MISFIT_FROM:
        flags["misfit"] = f"{worst:+.0%} off the fitted law at {worst_at} rank{'s' * (worst_at != 1)}"
    if fit_result.at_bound:
        flags["at_bound"] = f"the fit of {' and '.join(fit_result.at_bound)} ended at a bound of its range"
    if fit_result.peak_ranks is not None and fit_result.peak_ranks > counts[-1]:
        flags["extrapolated_peak"] = (
            f"the peak at {fit_result.peak_ranks:.0f} ranks is extrapolated from at most {counts[-1]}"
        )
    return flags | _outlier(rates, counts, fit_result)


def _superlinear(rates: Rates, counts: Sequence[int]) -> dict[str, str]:
    for ranks in counts[1:]:
        efficiency = ratio(rates[ranks], rates[counts[0]], factor=counts[0] / ranks, unit="1")
        if efficiency.value > 1 + SUPERLINEAR_BY and (efficiency.low is None or efficiency.low > 1):
            return {"superlinear": f"efficiency {efficiency.value:.0%} at {ranks} ranks: caching or an unfair baseline"}
    return {}


def _retrograde(rates: Rates, counts: Sequence[int]) -> dict[str, str]:
    last = counts[-1]
    for ranks in counts[:-1]:
        kept = ratio(rates[last], rates[ranks])
        if kept.value < 1 - RETROGRADE_BY and (kept.high is None or kept.high < 1):
            return {"retrograde": f"{last} ranks give {kept.value:.0%} of the throughput of {ranks}"}
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
            without = fit([(count, rate) for count, repeats in others.items() for rate in repeats], fit_result.model)
        except CannotFit:
            continue
        deviation = residuals({ranks: rates[ranks]}, without)[ranks]
        rest = max(abs(residual) for residual in residuals(others, without).values())
        # At the ends the fit to the other points extrapolates.
        allowed = OUTLIER_AT_THE_END_FROM if ranks in (counts[0], counts[-1]) else OUTLIER_FROM
        if abs(deviation) > allowed and abs(deviation) > OUTLIER_FACTOR * rest:
            return {"outlier": f"{ranks} ranks are {deviation:+.0%} off a fit to all other points"}
    return {}


LINE_STEPS = 32


class Point(FrozenModel):
    """One rank count of a curve. Speed-up and efficiency start from the smallest rank count."""

    ranks: int
    throughput: Estimate
    speedup: Estimate
    efficiency: Estimate
    karp_flatt: Estimate | None
    """The serial fraction by Karp and Flatt; ``None`` at the rank count that speed-up starts from."""
    gustafson: Estimate | None = None
    """The serial fraction by Gustafson; under weak scaling only."""
    modelled: float | None = None
    """The throughput of the fitted law."""
    time_parts: dict[str, float] = Field(default={})
    """T(N) ÷ T(1) of the model: ideal, contention, coherency."""


class Curve(FrozenModel):
    """A curve and the law fitted to it; without a model :attr:`reason` says why."""

    name: str
    points: tuple[Point, ...]
    model: ScalingLaw | None = None
    method: FitMethod
    reason: str | None = None
    gamma: Parameter | None = None
    sigma: Parameter | None = None
    kappa: Parameter | None = None
    peak_ranks: float | None = None
    peak_throughput: float | None = None
    limit: float | None = None
    """The upper bound of throughput; ``None`` where the model has none."""
    largest_residual: float | None = None
    predictions: tuple[Prediction, ...] = ()
    fit_flags: dict[str, str] = Field(default={})
    fitted: tuple[tuple[float, float], ...] = ()
    """The model's line between the smallest and the largest rank count: (ranks, throughput)."""


def fit_curve(
    name: str,
    rates: Rates,
    model: ScalingLaw | Literal["best"] = "best",
    method: FitMethod = "log",
    predict: Sequence[int] = (),
    scaling: Scaling = "strong",
) -> Curve:
    """Fit a scaling law to a curve, with flags of what the fit may hide.

    Args:
        name: of the curve.
        rates: the throughputs of the repeats, by rank count.
        model: ``best`` takes the richest law that the points support.
        method: the residuals that are minimized, see :mod:`reports.analysis.scaling`.
        predict: rank counts to predict.
        scaling: under weak scaling the serial fraction is Gustafson's too.

    Raises:
        ValueError: a throughput is not positive.
    """
    points = [(ranks, rate) for ranks, repeats in sorted(rates.items()) for rate in repeats]
    try:
        fit_result = fit_best(points, method) if model == "best" else fit(points, model, method)
    except CannotFit as problem:
        flags = {"too_few_points": str(problem)}
        if min(rates) != 1:
            flags["no_baseline"] = f"no measurement at 1 rank: speed-up starts from {min(rates)} ranks"
        return Curve(
            name=name, points=_points(rates, None, scaling), method=method, reason=str(problem), fit_flags=flags
        )
    peak = fit_result.peak_ranks
    return Curve(
        name=name,
        points=_points(rates, fit_result, scaling),
        model=fit_result.model,
        method=method,
        gamma=fit_result.gamma,
        sigma=fit_result.sigma,
        kappa=fit_result.kappa,
        peak_ranks=peak,
        peak_throughput=None if peak is None else fit_result.throughput(peak),
        limit=fit_result.limit,
        largest_residual=max(map(abs, residuals(rates, fit_result).values())),
        predictions=tuple(fit_result.predict(ranks, chosen=model == "best") for ranks in predict),
        fit_flags=find_fit_flags(rates, fit_result),
        fitted=_fitted_line(fit_result, min(rates), max(rates)),
    )


def _fitted_line(fit_result: Fit, first: int, last: int) -> tuple[tuple[float, float], ...]:
    steps = range(LINE_STEPS + 1)
    counts = [first * (last / first) ** (step / LINE_STEPS) for step in steps]
    return tuple((count, fit_result.throughput(count)) for count in counts)


def _points(rates: Rates, fit_result: Fit | None, scaling: Scaling) -> tuple[Point, ...]:
    base = min(rates)
    return tuple(_point(ranks, rates, base, fit_result, scaling) for ranks in sorted(rates))


def _point(ranks: int, rates: Rates, base: int, fit_result: Fit | None, scaling: Scaling) -> Point:
    speedup, efficiency = speedup_and_efficiency(rates[ranks], ranks, rates[base], base)
    return Point(
        ranks=ranks,
        throughput=estimate(rates[ranks], "/s"),
        speedup=speedup,
        efficiency=efficiency,
        karp_flatt=None if ranks == base else _serial_fraction(speedup, ranks, karp_flatt),
        gustafson=None if ranks == base or scaling == "strong" else _serial_fraction(speedup, ranks, gustafson),
        modelled=fit_result.throughput(ranks) if fit_result else None,
        time_parts=time_parts(ranks, fit_result.sigma.value, fit_result.kappa.value) if fit_result else {},
    )


def _serial_fraction(speedup: Estimate, ranks: int, law: Callable[[float, int], float | None]) -> Estimate | None:
    """A serial fraction falls as the speed-up rises, so the ends of the interval are exchanged."""
    value = law(speedup.value, ranks)
    if value is None:
        return None
    low = None if speedup.high is None else law(speedup.high, ranks)
    high = None if speedup.low is None else law(speedup.low, ranks)
    return Estimate(value=value, low=low, high=high, n=speedup.n, unit="1")
