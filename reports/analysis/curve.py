"""What a fitted curve may hide: each trap by name, with what was seen. Thresholds leave clean curves alone.

A point is judged by the geometric mean of its repeats; where it has repeats, chance is ruled out at 95 % as well.

Everything that can be said of one curve of throughputs over rank counts.
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


LINE_STEPS = 32


class Point(FrozenModel):
    """One rank count of a curve. Speed-up and efficiency start from the smallest rank count."""

    ranks: int
    throughput: Estimate
    speedup: Estimate
    efficiency: Estimate
    karp_flatt: Estimate | None
    """The serial share that the speed-up betrays; ``None`` where it was measured from."""
    gustafson: Estimate | None = None
    """The serial share that a scaled speed-up betrays: under weak scaling only."""
    modelled: float | None = None
    time_parts: dict[str, float] = Field(default={})
    """T(N) ÷ T(1) of the model: ideal, contention, coherency."""


class Curve(FrozenModel):
    """A curve and what was fitted to it; without a model :attr:`reason` says why."""

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
    """What throughput never exceeds; ``None`` where the model has no such bound."""
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
    """``rates``: repeated throughputs by rank count. Raises ``ValueError`` for values that aren't positive."""
    points = [(ranks, rate) for ranks, repeats in sorted(rates.items()) for rate in repeats]
    try:
        fit_result = fit_best(points, method) if model == "best" else fit(points, model, method)
    except CannotFit as problem:
        traps = {"too_few_points": str(problem)}
        if min(rates) != 1:
            traps["no_baseline"] = f"nothing was measured at 1 rank: {min(rates)} stands in"
        return Curve(
            name=name, points=_points(rates, None, scaling), method=method, reason=str(problem), fit_flags=traps
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
        karp_flatt=None if ranks == base else _serial_share(speedup, ranks, karp_flatt),
        gustafson=None if ranks == base or scaling == "strong" else _serial_share(speedup, ranks, gustafson),
        modelled=fit_result.throughput(ranks) if fit_result else None,
        time_parts=time_parts(ranks, fit_result.sigma.value, fit_result.kappa.value) if fit_result else {},
    )


def _serial_share(speedup: Estimate, ranks: int, law: Callable[[float, int], float | None]) -> Estimate | None:
    """A serial share falls as the speed-up rises: the ends of the interval change places."""
    value = law(speedup.value, ranks)
    if value is None:
        return None
    low = None if speedup.high is None else law(speedup.high, ranks)
    high = None if speedup.low is None else law(speedup.low, ranks)
    return Estimate(value=value, low=low, high=high, n=speedup.n, unit="1")
