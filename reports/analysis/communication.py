"""The time of an allreduce by its size and the number of ranks: latency α and inverse bandwidth β, fitted.

    ring   2(N−1)·α + 2(N−1)/N·S·β       reduce-scatter, then allgather
    tree   2⌈log₂N⌉·(α + S·β)            reduce to a root, then broadcast

N ranks, message S in bytes, α in seconds for each of the messages that follow one another, β in seconds per byte.
Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521. Fitted to ln t, since errors are in proportion to
the time: small and large messages count alike. The interval of ln α and ln β is Student's t on their standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

from bench.core.collectives import bus_factor
from bench.core.frozen_model import FrozenModel
from reports.analysis.scaling import Parameter, log_interval
from reports.analysis.stats import student_t

Algorithm = Literal["ring", "tree"]
MIN_MESSAGE_SIZES = 3
NEGLIGIBLE = 1e-15
"""In seconds, and in seconds per byte: a smaller fitted value is indistinguishable from 0."""


class AllreduceTiming(NamedTuple):
    """One measured allreduce: ranks, message in bytes, time in seconds, nodes."""

    ranks: int
    message_bytes: float
    time_s: float
    nodes: int = 1


def bus_bandwidth(timing: AllreduceTiming) -> float:
    """S ÷ t · 2(N−1)/N in bytes per second: what each link must have carried, independent of the number of ranks."""
    return timing.message_bytes / timing.time_s * bus_factor("all_reduce", timing.ranks)


class CannotFitAllreduce(ValueError):
    """The timings do not allow a fit; the message says why."""


class AllreduceModel(FrozenModel):
    """A fitted model of the allreduce. ``misfit`` is the largest relative residual and where it was."""

    algorithm: Algorithm
    latency_s: Parameter
    byte_s: Parameter
    scatter: float
    """Standard deviation of ln t around the model."""
    misfit: float
    misfit_ranks: int
    misfit_bytes: float
    assumed: bool
    """Ring and tree are indistinguishable, since one rank count was measured; gloo and NCCL run a ring."""

    def time_s(self, ranks: int, message_bytes: float) -> float:
        """The modelled time of one allreduce."""
        return time_s(self.algorithm, ranks, message_bytes, self.latency_s.value, self.byte_s.value)


def cost_coefficients(algorithm: Algorithm, ranks: int, message_bytes: float) -> tuple[float, float]:
    """The coefficients of α (a count) and of β (in bytes) in the time of an allreduce."""
    if algorithm == "ring":
        return 2.0 * (ranks - 1), 2.0 * (ranks - 1) / ranks * message_bytes
    rounds = 2.0 * math.ceil(math.log2(ranks))
    return rounds, rounds * message_bytes


def time_s(algorithm: Algorithm, ranks: int, message_bytes: float, latency_s: float, byte_s: float) -> float:
    """The modelled time of an allreduce; 0 for one rank, which exchanges with no other."""
    steps, carried = cost_coefficients(algorithm, ranks, message_bytes)
    return steps * latency_s + carried * byte_s


def fastest_allreduce_time(latency_s: float, byte_s: float) -> Callable[[int, float], float]:
    """The time by rank count and message size, of the fastest algorithm for them, as tuned libraries choose it."""

    def best(ranks: int, message_bytes: float) -> float:
        return min(time_s(algorithm, ranks, message_bytes, latency_s, byte_s) for algorithm in get_args(Algorithm))

    return best


def fit_allreduce(timings: Sequence[AllreduceTiming]) -> AllreduceModel:
    """Fit both algorithms and return the model that is closer to the timings.

    Raises:
        CannotFitAllreduce: there are fewer than :data:`MIN_MESSAGE_SIZES` message sizes.
        ValueError: a time is not positive and finite.
    """
    exchanges = [timing for timing in timings if timing.ranks > 1]
    sizes = {timing.message_bytes for timing in exchanges}
    if len(sizes) < MIN_MESSAGE_SIZES:
        raise CannotFitAllreduce(f"fitting α and β needs {MIN_MESSAGE_SIZES} message sizes, there are {len(sizes)}")
    if any(not (0 < timing.time_s < math.inf) for timing in exchanges):
        raise ValueError("times must be positive and finite")
    # Where one rank count was measured the two differ by constants only, and the first is returned.
    return min(
        (_fit(exchanges, algorithm) for algorithm in get_args(Algorithm)), key=lambda model: round(model.scatter, 9)
    )


def _fit(timings: Sequence[AllreduceTiming], algorithm: Algorithm) -> AllreduceModel:
    return fit_latency_and_bandwidth(
        timings, algorithm, [cost_coefficients(algorithm, timing.ranks, timing.message_bytes) for timing in timings]
    )


def fit_latency_and_bandwidth(
    timings: Sequence[AllreduceTiming],
    algorithm: Algorithm,
    columns: Sequence[tuple[float, float]],
    known_s: Sequence[float] = (),
) -> AllreduceModel:
    """Fit α and β by least squares of ln t.

    Args:
        timings: the measured allreduces.
        algorithm: recorded in the model.
        columns: for each timing, the coefficients of α (a count) and of β (in bytes).
        known_s: for each timing, a part of its time that is known and not fitted; by default none.
    """
    import numpy as np
    from scipy.optimize import least_squares

    times: Any = np.array([timing.time_s for timing in timings])
    known: Any = np.array(known_s) if known_s else np.zeros_like(times)
    coefficients: Any = np.array(columns)

    def residuals(params: Any) -> Any:
        return np.log(known + coefficients @ np.exp(params)) - np.log(times)

    def jacobian(params: Any) -> Any:
        parts = coefficients * np.exp(params)
        return parts / (known + parts.sum(axis=1))[:, None]

    solution = least_squares(
        residuals, _initial_params(coefficients, times, known), jacobian, method="lm", xtol=1e-14, ftol=1e-14
    )
    final_residuals, slopes = residuals(solution.x), jacobian(solution.x)
    degrees_of_freedom = len(timings) - 2
    scatter = (
        math.sqrt(float(final_residuals @ final_residuals) / degrees_of_freedom) if degrees_of_freedom > 0 else 0.0
    )
    errors = np.sqrt(np.diag(np.linalg.pinv(slopes.T @ slopes))) * scatter
    worst = int(np.argmax(np.abs(final_residuals)))
    return AllreduceModel(
        algorithm=algorithm,
        latency_s=_parameter(math.exp(solution.x[0]), float(errors[0]), degrees_of_freedom),
        byte_s=_parameter(math.exp(solution.x[1]), float(errors[1]), degrees_of_freedom),
        scatter=scatter,
        misfit=math.exp(float(final_residuals[worst])) - 1,
        misfit_ranks=timings[worst].ranks,
        misfit_bytes=timings[worst].message_bytes,
        assumed=len({timing.ranks for timing in timings}) == 1,
    )


def _initial_params(columns: Any, times: Any, known: Any) -> list[float]:
    """A start for the fit: the relative residuals are linear in α and β, solved by non-negative least squares."""
    from scipy.optimize import nnls

    solved, _ = nnls(columns / times[:, None], 1 - known / times)
    return [math.log(max(float(value), NEGLIGIBLE)) for value in solved]


def _parameter(value: float, error: float, degrees_of_freedom: int) -> Parameter:
    if degrees_of_freedom < 1 or value < NEGLIGIBLE:
        return Parameter(value=value, low=None, high=None, standard_error=None)
    low, high = log_interval(value, student_t(degrees_of_freedom) * error)
    return Parameter(value=value, low=low, high=high, standard_error=value * error)
