"""One curve of throughputs over rank counts: its points, the scaling law that describes it, and predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from bench.core.case import Scaling
from bench.core.frozen_model import FrozenModel
from reports.analysis.curve_flags import find_fit_flags, find_point_flags
from reports.analysis.law_prediction import weigh_laws
from reports.analysis.law_selection import (
    NoLaw,
    Rates,
    describing_laws,
    miss_text,
    points_of,
    residuals,
    shown_law,
)
from reports.analysis.laws import ScalingLaw, time_parts
from reports.analysis.numerous_model import NumerousModel
from reports.analysis.scaling import CannotFit, Fit, FitMethod, Parameter, Prediction, fit
from reports.analysis.serial_fraction import gustafson, karp_flatt
from reports.analysis.stats import Estimate, estimate, speedup_and_efficiency

LINE_STEPS = 32


class Point(NumerousModel):
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
    """A curve and the law that describes it; without a model :attr:`reason` says why."""

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
    """Of all laws that describe the curve, unless one was named."""
    prediction_weights: dict[ScalingLaw, float] = Field(default={})
    """The weight of each law in the predictions, where there are any."""
    prediction_reason: str | None = None
    """Why nothing can be predicted."""
    fit_flags: dict[str, str] = Field(default={})
    fitted: tuple[tuple[float, float], ...] = ()
    """The model's line between the smallest and the largest rank count: (ranks, throughput)."""

    @property
    def prediction_model(self) -> str:
        """The laws of the predictions, the largest weight first: ``log + amdahl``."""
        weights = sorted(self.prediction_weights.items(), key=lambda item: -item[1])
        return " + ".join(law for law, _ in weights)


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
        model: ``best`` shows the richest law that the points support, and predicts by all laws that describe them.
        method: the residuals that are minimized, see :mod:`reports.analysis.scaling`.
        predict: rank counts to predict.
        scaling: under weak scaling the serial fraction is Gustafson's too.

    Raises:
        ValueError: a throughput is not positive.
    """
    try:
        if model == "best":
            curve = _described_by(name, rates, shown_law(rates, method), scaling)
            if not predict:
                return curve
            weighed = weigh_laws(rates, describing_laws(rates, method), method)
            predictions = tuple(weighed.predict(ranks) for ranks in predict)
            return curve.model_copy(update={"predictions": predictions, "prediction_weights": dict(weighed.weights)})
        fit_result = fit(points_of(rates), model, method)
    except CannotFit as problem:
        return _without_law(name, rates, method, scaling, "too_few_points", str(problem))
    except NoLaw as problem:
        return _without_law(name, rates, method, scaling, "no_law", str(problem))
    curve = _described_by(name, rates, fit_result, scaling)
    if miss := miss_text(rates, fit_result):
        return curve.model_copy(update={"prediction_reason": f"no predictions: {miss}"})
    predictions = tuple(fit_result.predict(ranks) for ranks in predict)
    weights = {fit_result.model: 1.0} if predictions else {}
    return curve.model_copy(update={"predictions": predictions, "prediction_weights": weights})


def _without_law(name: str, rates: Rates, method: FitMethod, scaling: Scaling, flag: str, reason: str) -> Curve:
    return Curve(
        name=name,
        points=_points(rates, None, scaling),
        method=method,
        reason=reason,
        prediction_reason=reason,
        fit_flags=find_point_flags(rates) | {flag: reason},
    )


def _described_by(name: str, rates: Rates, fit_result: Fit, scaling: Scaling) -> Curve:
    peak = fit_result.peak_ranks
    return Curve(
        name=name,
        points=_points(rates, fit_result, scaling),
        model=fit_result.model,
        method=fit_result.method,
        gamma=fit_result.gamma,
        sigma=fit_result.sigma,
        kappa=fit_result.kappa,
        peak_ranks=peak,
        peak_throughput=fit_result.throughput(peak) if peak is not None else None,
        limit=fit_result.limit,
        largest_residual=max(map(abs, residuals(rates, fit_result).values())),
        fit_flags=find_point_flags(rates) | find_fit_flags(rates, fit_result),
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
        karp_flatt=_serial_fraction(speedup, ranks, base, karp_flatt),
        gustafson=None if scaling == "strong" else _serial_fraction(speedup, ranks, base, gustafson),
        modelled=fit_result.throughput(ranks) if fit_result else None,
        time_parts=(
            time_parts(ranks, fit_result.sigma.value, fit_result.kappa.value, fit_result.model) if fit_result else {}
        ),
    )


def _serial_fraction(
    speedup: Estimate, ranks: int, base: int, fraction: Callable[[float, int, int], float | None]
) -> Estimate | None:
    """A serial fraction falls as the speed-up rises, so the ends of the interval are exchanged."""
    value = fraction(speedup.value, ranks, base)
    if value is None:
        return None
    low = None if speedup.high is None else fraction(speedup.high, ranks, base)
    high = None if speedup.low is None else fraction(speedup.low, ranks, base)
    return Estimate(value=value, low=low, high=high, n=speedup.n, unit="1")
