"""Fits of the scaling laws (:mod:`reports.analysis.laws`) to measured points, with intervals.

Two methods. ``log`` takes the residuals of ln X, which is right where errors are in proportion to the value; its
intervals, estimate ± t(0.975, n−p) × standard error from the Jacobian (Seber and Wild, Nonlinear Regression, §5.1), are
the ones to quote. ``nls`` takes those of X, as R's ``nls`` does. n counts every repeat, p the fitted parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.core.frozen_model import FrozenModel
from reports.analysis.laws import (
    MIN_RANK_COUNTS,
    PARAMETER_COUNT,
    PARAMETER_NAMES,
    ScalingLaw,
    contention_growth,
    denominator,
    log_gradient,
)
from reports.analysis.stats import student_t

FitMethod = Literal["log", "nls"]
TRUSTED_FROM = 6
"""A USL fitted to fewer rank counts is flagged."""
NEAR_A_BOUND = 1e-9
WIDEST_FACTOR = 1000.0
"""A wider interval, as a factor of the value, is reported as unknown."""


TOLERANCE, MAX_EVALUATIONS = 1e-15, 2000
"""Of the solver."""


class CannotFit(ValueError):
    """The points do not allow this model; the message says why."""


class Parameter(FrozenModel):
    """A fitted parameter with its 95 % interval, cut to the values it may take; unknown without degrees of freedom."""

    value: float
    low: float | None
    high: float | None
    standard_error: float | None


class Prediction(FrozenModel):
    """Throughput at a rank count, with a 95 % interval for one further measurement there."""

    ranks: int
    throughput: float
    low: float | None
    high: float | None
    extrapolated: bool


@dataclass(frozen=True)
class Fit:
    """A model fitted to points. ``covariance`` is of (ln γ, σ, κ), the first ``p`` of them, and ``None`` without
    degrees of freedom; ``spread`` is the standard deviation of ln X around the model."""

    model: ScalingLaw
    method: FitMethod
    gamma: Parameter
    sigma: Parameter
    kappa: Parameter
    largest_ranks: int
    observations: int
    spread: float
    covariance: Any
    at_bound: tuple[str, ...]

    def throughput(self, ranks: float) -> float:
        """X(N)"""
        return self.gamma.value * ranks / denominator(ranks, self.sigma.value, self.kappa.value, self.model)

    @property
    def limit(self) -> float | None:
        """γ ÷ σ, which throughput never exceeds; ``None`` without contention, and under ``log``, which has no limit."""
        return self.gamma.value / self.sigma.value if self.sigma.value > 0 and self.model != "log" else None

    @property
    def peak_ranks(self) -> float | None:
        """√((1−σ) ÷ κ), where throughput is highest; ``None`` where κ is not significant, or throughput only falls."""
        if self.model != "usl" or self.kappa.value <= 0 or not (self.kappa.low or 0) > 0:
            return None
        peak = math.sqrt((1 - self.sigma.value) / self.kappa.value)
        return peak if peak >= 1 else None

    def predict(self, ranks: int) -> Prediction:
        """Predict the throughput at a rank count, with an interval for one further measurement there.

        The interval includes the uncertainty of the curve and the scatter of measurements, and assumes that the law
        holds. It is unknown where it would be wider than a factor of :data:`WIDEST_FACTOR`.
        """
        expected = self.throughput(ranks)
        low = high = None
        if self.covariance is not None:
            gradient = log_gradient(ranks, self.sigma.value, self.kappa.value, self.model)
            slope = gradient[: PARAMETER_COUNT[self.model]]
            variance = float(slope @ self.covariance @ slope)
            half = student_t(self.observations - PARAMETER_COUNT[self.model]) * math.sqrt(variance + self.spread**2)
            low, high = log_interval(expected, half)
        return Prediction(ranks=ranks, throughput=expected, low=low, high=high, extrapolated=ranks > self.largest_ranks)


def extrapolation_widening(ranks: int, largest_ranks: int) -> float:
    """1 + log₂(N ÷ largest measured N), at least 1: the widening of intervals beyond the measured range, by choice."""
    return 1 + max(0.0, math.log2(ranks / largest_ranks))


def log_interval(value: float, half: float) -> tuple[float | None, float | None]:
    """``value`` ÷ e^half and × e^half; unknown where that is further than a factor of :data:`WIDEST_FACTOR`."""
    if half > math.log(WIDEST_FACTOR):
        return None, None
    return value * math.exp(-half), value * math.exp(half)


def fit(
    points: Sequence[tuple[int, float]],
    model: ScalingLaw = "usl",
    method: FitMethod = "log",
    fewest: int | None = None,
) -> Fit:
    """Fit a law to points.

    Args:
        points: ``(ranks, throughput)``, repeats as further points, in any order.
        model: the law.
        method: see the module.
        fewest: the number of different rank counts that is needed, by default :data:`MIN_RANK_COUNTS`.

    Raises:
        CannotFit: there are fewer different rank counts.
        ValueError: a value is not positive.
    """
    if any(ranks < 1 or not (0 < rate < math.inf) for ranks, rate in points):
        raise ValueError("ranks must be 1 or more, and throughputs positive and finite")
    counts, needed = {ranks for ranks, _ in points}, fewest or MIN_RANK_COUNTS[model]
    if len(counts) < needed:
        raise CannotFit(f"{model} needs {needed} different rank counts, there are {len(counts)}")
    return _fit(sorted(points), model, method)  # in any order the same to the last digit


def _fit(points: Sequence[tuple[int, float]], model: ScalingLaw, method: FitMethod) -> Fit:
    import numpy as np

    size = PARAMETER_COUNT[model]
    ranks: Any = np.array([count for count, _ in points], dtype=float)
    rates: Any = np.array([rate for _, rate in points], dtype=float)
    # Scaled, so that throughputs of 10⁹ and of 10⁻³ are fitted alike.
    unit = float(np.exp(np.mean(np.log(rates / ranks))))
    scaled = rates / unit
    logs = np.log(scaled)
    log_ranks = np.log(ranks)
    growth = np.array([contention_growth(model, count) for count, _ in points])
    # What ln γ, σ and κ are multiplied by; the first in ln X, the others in D(N).
    factors = np.stack([np.ones_like(ranks), growth, ranks * (ranks - 1)], axis=1)[:, :size]

    def denominators(params: Any) -> Any:
        return 1 + factors[:, 1:] @ params[1:]

    def model_logs(params: Any) -> Any:
        return params[0] + log_ranks - np.log(denominators(params))

    def residuals(params: Any) -> Any:
        modelled = model_logs(params)
        return logs - modelled if method == "log" else scaled - np.exp(modelled)

    def jacobian(params: Any) -> Any:
        slopes = factors / denominators(params)[:, None]
        slopes[:, 0] = -1.0
        return slopes if method == "log" else slopes * np.exp(model_logs(params))[:, None]

    if size == 1 and method == "log":
        params = np.array([np.mean(logs - log_ranks)])  # the only parameter is linear
    else:
        params = _solve(residuals, jacobian, _initial_params(ranks / scaled, factors))
    degrees_of_freedom = len(points) - size
    final_residuals = residuals(params)
    covariance = None
    if degrees_of_freedom > 0:
        slopes = jacobian(params)
        covariance = np.linalg.pinv(slopes.T @ slopes) * float(final_residuals @ final_residuals) / degrees_of_freedom
    spread = (
        math.sqrt(float(np.sum((logs - model_logs(params)) ** 2)) / degrees_of_freedom)
        if degrees_of_freedom > 0
        else 0.0
    )
    errors = [None if covariance is None else math.sqrt(max(0.0, covariance[k][k])) for k in range(size)]
    half = student_t(degrees_of_freedom) if degrees_of_freedom > 0 else 0.0
    gamma = unit * math.exp(params[0])
    return Fit(
        model=model,
        method=method,
        gamma=_gamma_parameter(gamma, errors[0], half),
        sigma=_bounded_parameter(params[1], errors[1], half) if size > 1 else _zero_parameter(),
        kappa=_bounded_parameter(params[2], errors[2], half) if size > 2 else _zero_parameter(),
        largest_ranks=int(ranks.max()),
        observations=len(points),
        spread=spread,
        covariance=covariance,
        at_bound=tuple(
            name for name, value in zip(PARAMETER_NAMES[1:size], params[1:], strict=True) if value in (0.0, 1.0)
        ),
    )


def _solve(residuals: Callable[[Any], Any], jacobian: Callable[[Any], Any], start: Any) -> Any:
    """Levenberg–Marquardt, which is fast and unbounded; where it leaves the bounds, on them; where that is no minimum,
    a trust region within them."""
    import numpy as np
    from scipy.optimize import least_squares

    lower: Any = np.array([-np.inf, 0.0, 0.0])[: len(start)]
    upper: Any = np.array([np.inf, 1.0, 1.0])[: len(start)]
    # A step beyond the bounds may make the denominator negative, which has no logarithm.
    with np.errstate(invalid="ignore"):
        params = _levenberg_marquardt(residuals, jacobian, start)
        if not np.all((params >= lower) & (params <= upper)):
            params = _solve_on_bounds(residuals, jacobian, start, np.clip(params, lower, upper), params)
        if np.all((params >= lower) & (params <= upper)):
            return _settle_on_bounds(params, lower, upper)
    exact: Any = {"x_scale": "jac", "xtol": TOLERANCE, "ftol": TOLERANCE, "gtol": TOLERANCE}
    solution = least_squares(residuals, start, jacobian, bounds=(lower, upper), max_nfev=MAX_EVALUATIONS, **exact)
    return _settle_on_bounds(solution.x, lower, upper)


def _levenberg_marquardt(residuals: Callable[[Any], Any], jacobian: Callable[[Any], Any], start: Any) -> Any:
    """The MINPACK of ``least_squares(method="lm")``, without what that does around it, which takes as long again."""
    from scipy.optimize import leastsq

    limits: Any = {"xtol": TOLERANCE, "ftol": TOLERANCE, "gtol": TOLERANCE, "maxfev": MAX_EVALUATIONS}
    # Without its full output it warns where an exact curve can't be fitted any better.
    return leastsq(residuals, start, Dfun=jacobian, full_output=True, **limits)[0]


def _solve_on_bounds(
    residuals: Callable[[Any], Any], jacobian: Callable[[Any], Any], start: Any, bounded: Any, unbounded: Any
) -> Any:
    """The minimum with those parameters on their bounds that the unbounded one has beyond them.

    Returns:
        It, where the residuals grow from it into the bounds (Karush, Kuhn and Tucker); else the unbounded one.
    """
    import numpy as np

    free = bounded == unbounded

    def whole(params: Any) -> Any:
        every = bounded.copy()
        every[free] = params
        return every

    solved = whole(
        _levenberg_marquardt(
            lambda params: residuals(whole(params)), lambda params: jacobian(whole(params))[:, free], start[free]
        )
    )
    slopes = jacobian(solved).T @ residuals(solved)
    # A bound that was exceeded from above is a lower one: towards the inside the parameter grows.
    inwards = np.sign(bounded - unbounded)
    return solved if np.all((slopes * inwards)[~free] >= 0) else unbounded


def _initial_params(slowness: Any, factors: Any) -> Any:
    """N ÷ X = D(N) ÷ γ is linear in 1/γ, σ/γ and κ/γ: solved by non-negative least squares."""
    import numpy as np
    from scipy.optimize import nnls

    solved, _ = nnls(factors / slowness[:, None], np.ones_like(slowness))
    first = max(float(solved[0]), 1e-12)
    shares = [min(max(float(value) / first, 1e-12), 1 - 1e-12) for value in solved[1:]]
    return np.array([-math.log(first), *shares])


def _settle_on_bounds(params: Any, lower: Sequence[float], upper: Sequence[float]) -> Any:
    """Round to a bound: the solver stays slightly inside its bounds."""
    settled = params.copy()
    for number, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if params[number] - low < NEAR_A_BOUND:
            settled[number] = low
        elif high - params[number] < NEAR_A_BOUND:
            settled[number] = high
    return settled


def _gamma_parameter(value: float, error: float | None, half: float) -> Parameter:
    """γ is fitted as its logarithm; its standard error is carried back to first order."""
    if error is None:
        return Parameter(value=value, low=None, high=None, standard_error=None)
    low, high = log_interval(value, half * error)
    return Parameter(value=value, low=low, high=high, standard_error=value * error)


def _bounded_parameter(value: float, error: float | None, half: float) -> Parameter:
    if error is None:
        return Parameter(value=float(value), low=None, high=None, standard_error=None)
    return Parameter(
        value=float(value),
        low=max(0.0, value - half * error),
        high=min(1.0, value + half * error),
        standard_error=error,
    )


def _zero_parameter() -> Parameter:
    return Parameter(value=0.0, low=None, high=None, standard_error=None)
