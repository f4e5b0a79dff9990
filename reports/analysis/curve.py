"""Everything that can be said of one curve of throughputs over rank counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from bench.case import Scaling
from bench.records import FrozenModel
from reports.analysis.scaling import (
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
from reports.analysis.speedup import speedup_and_efficiency
from reports.analysis.stats import Estimate, estimate
from reports.analysis.traps import Rates, find_fit_flags, residuals

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
