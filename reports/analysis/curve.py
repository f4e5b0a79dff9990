"""Everything that can be said of one curve of throughputs over rank counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from bench.case import Scaling
from bench.records import Value
from reports.analysis.scaling import (
    CannotFit,
    Fit,
    Method,
    Model,
    Parameter,
    Prediction,
    fit,
    fit_best,
    gustafson,
    karp_flatt,
    time_parts,
)
from reports.analysis.speedup import speedup_and_efficiency
from reports.analysis.stats import Estimate, estimate
from reports.analysis.traps import Rates, find_traps, residuals

LINE_STEPS = 32


class Point(Value):
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


class Curve(Value):
    """A curve and what was fitted to it; without a model :attr:`reason` says why."""

    name: str
    points: tuple[Point, ...]
    model: Model | None = None
    method: Method
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
    traps: dict[str, str] = Field(default={})
    fitted: tuple[tuple[float, float], ...] = ()
    """The model's line between the smallest and the largest rank count: (ranks, throughput)."""


def analyse(
    name: str,
    rates: Rates,
    model: Model | Literal["best"] = "best",
    method: Method = "log",
    predict: Sequence[int] = (),
    scaling: Scaling = "strong",
) -> Curve:
    """``rates``: repeated throughputs by rank count. Raises ``ValueError`` for values that aren't positive."""
    points = [(ranks, rate) for ranks, repeats in sorted(rates.items()) for rate in repeats]
    try:
        found = fit_best(points, method) if model == "best" else fit(points, model, method)
    except CannotFit as problem:
        traps = {"too_few_points": str(problem)}
        if min(rates) != 1:
            traps["no_baseline"] = f"nothing was measured at 1 rank: {min(rates)} stands in"
        return Curve(name=name, points=_points(rates, None, scaling), method=method, reason=str(problem), traps=traps)
    peak = found.peak_ranks
    return Curve(
        name=name,
        points=_points(rates, found, scaling),
        model=found.model,
        method=method,
        gamma=found.gamma,
        sigma=found.sigma,
        kappa=found.kappa,
        peak_ranks=peak,
        peak_throughput=None if peak is None else found.throughput(peak),
        limit=found.limit,
        largest_residual=max(map(abs, residuals(rates, found).values())),
        predictions=tuple(found.predict(ranks, chosen=model == "best") for ranks in predict),
        traps=find_traps(rates, found),
        fitted=_line(found, min(rates), max(rates)),
    )


def _line(found: Fit, first: int, last: int) -> tuple[tuple[float, float], ...]:
    steps = range(LINE_STEPS + 1)
    counts = [first * (last / first) ** (step / LINE_STEPS) for step in steps]
    return tuple((count, found.throughput(count)) for count in counts)


def _points(rates: Rates, found: Fit | None, scaling: Scaling) -> tuple[Point, ...]:
    base = min(rates)
    return tuple(_point(ranks, rates, base, found, scaling) for ranks in sorted(rates))


def _point(ranks: int, rates: Rates, base: int, found: Fit | None, scaling: Scaling) -> Point:
    speedup, efficiency = speedup_and_efficiency(rates[ranks], ranks, rates[base], base)
    return Point(
        ranks=ranks,
        throughput=estimate(rates[ranks], "/s"),
        speedup=speedup,
        efficiency=efficiency,
        karp_flatt=None if ranks == base else _serial_share(speedup, ranks, karp_flatt),
        gustafson=None if ranks == base or scaling == "strong" else _serial_share(speedup, ranks, gustafson),
        modelled=found.throughput(ranks) if found else None,
        time_parts=time_parts(ranks, found.sigma.value, found.kappa.value) if found else {},
    )


def _serial_share(speedup: Estimate, ranks: int, law: Callable[[float, int], float | None]) -> Estimate | None:
    """A serial share falls as the speed-up rises: the ends of the interval change places."""
    value = law(speedup.value, ranks)
    if value is None:
        return None
    low = None if speedup.high is None else law(speedup.high, ranks)
    high = None if speedup.low is None else law(speedup.low, ranks)
    return Estimate(value=value, low=low, high=high, n=speedup.n, unit="1")
