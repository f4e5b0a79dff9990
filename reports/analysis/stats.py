"""Estimates with intervals. A trial is one observation; the steps inside it are not independent samples.

Throughputs are positive and their errors multiply, so means and intervals are taken of logarithms (Student's t with
n−1 degrees of freedom) and carried back: the value is the geometric mean over the trials. A ratio of two such means
is a difference of logarithms, with Welch's interval (Welch 1947, Biometrika 34, doi:10.1093/biomet/34.1-2.28).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from reports.analysis.numerous_model import NumerousModel

CONFIDENCE = 0.95
NORMAL = 1.96
"""The two-sided 95 % quantile of the normal distribution."""


class Estimate(NumerousModel):
    """A value with its 95 % interval over ``n`` trials; from one trial there is a value and no interval."""

    value: float
    low: float | None
    high: float | None
    n: int
    unit: str


def is_baseline(value: Estimate | None) -> bool:
    """Whether a speed-up or an efficiency is 1 by definition, of a rank count compared with itself."""
    return value is not None and value.value == 1 and value.low is None


@lru_cache(maxsize=256)
def student_t(degrees_of_freedom: float) -> float:
    """The two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, 0.5 + CONFIDENCE / 2))


def estimate(values: Sequence[float], unit: str) -> Estimate:
    """Geometric mean of the values with its interval. Raises ``ValueError`` for none, or one that isn't positive."""
    logs = _logs(values)
    mean, error = _mean_and_error(logs)
    if error is None:
        return Estimate(value=math.exp(mean), low=None, high=None, n=1, unit=unit)
    half = student_t(len(logs) - 1) * error
    return Estimate(value=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), n=len(logs), unit=unit)


def arithmetic_mean(values: Sequence[float], unit: str) -> Estimate:
    """Arithmetic mean with its t interval: for readings that may be zero. Raises ``ValueError`` for none."""
    if not values:
        raise ValueError("the mean of no values")
    mean, error = _mean_and_error(values)
    if error is None:
        return Estimate(value=mean, low=None, high=None, n=1, unit=unit)
    half = student_t(len(values) - 1) * error
    return Estimate(value=mean, low=mean - half, high=mean + half, n=len(values), unit=unit)


def widened(value: Estimate, spread: float) -> Estimate:
    """The value with an interval that is at least as wide as that of observations whose spread is known.

    A few observations may lie close together although they could lie far apart; Student's t allows for that only where
    they are normally distributed. From one observation there is no interval still.

    Args:
        value: an arithmetic mean with its interval.
        spread: the standard deviation of one observation, as a share of the value.
    """
    if value.low is None or value.high is None:
        return value
    half = max((value.high - value.low) / 2, NORMAL * spread * abs(value.value) / math.sqrt(value.n))
    return value.model_copy(update={"low": value.value - half, "high": value.value + half})


def ratio(above: Sequence[float], below: Sequence[float], factor: float = 1.0, unit: str = "×") -> Estimate:
    """``factor`` × geometric mean of ``above`` ÷ that of ``below``, with Welch's interval on the logarithms."""
    first, second = _logs(above), _logs(below)
    (mean_a, error_a), (mean_b, error_b) = _mean_and_error(first), _mean_and_error(second)
    value = factor * math.exp(mean_a - mean_b)
    n = min(len(first), len(second))
    if error_a is None or error_b is None:
        return Estimate(value=value, low=None, high=None, n=n, unit=unit)
    variance = error_a**2 + error_b**2
    if variance == 0:
        return Estimate(value=value, low=value, high=value, n=n, unit=unit)
    degrees_of_freedom = variance**2 / (error_a**4 / (len(first) - 1) + error_b**4 / (len(second) - 1))
    spread = math.exp(student_t(degrees_of_freedom) * math.sqrt(variance))
    return Estimate(value=value, low=value / spread, high=value * spread, n=n, unit=unit)


def speedup_and_efficiency(
    rates: Sequence[float], ranks: int, base_rates: Sequence[float], base_ranks: int
) -> tuple[Estimate, Estimate]:
    """Speed-up S = X(N) ÷ X(base) × base ranks, and efficiency E = S ÷ N; exact where N is the base.

    Args:
        rates: the throughputs of the repeats at ``ranks``.
        ranks: N.
        base_rates: the throughputs of the repeats at the base.
        base_ranks: the rank count that speed-up starts from.
    """
    if ranks == base_ranks:
        exact = Estimate(value=float(base_ranks), low=None, high=None, n=len(rates), unit="×")
        return exact, exact.model_copy(update={"value": 1.0, "unit": "1"})
    return (
        ratio(rates, base_rates, factor=base_ranks),
        ratio(rates, base_rates, factor=base_ranks / ranks, unit="1"),
    )


def half_width(value: Estimate | None) -> float | None:
    """The half width of the interval as a fraction of the value: 0.02 for ± 2 %; ``None`` without an interval."""
    if value is None or value.low is None or value.high is None:
        return None
    return math.sqrt(value.high / value.low) - 1


def intervals_disjoint(first: Estimate, second: Estimate) -> bool | None:
    """Whether two intervals do not overlap; ``None`` where either is unknown."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return None
    return first.low > second.high or second.low > first.high


def _logs(values: Sequence[float]) -> list[float]:
    if not values or any(not (value > 0) for value in values):
        raise ValueError(f"a geometric mean needs positive values, not {list(values)[:5]}")
    return [math.log(value) for value in values]


def _mean_and_error(logs: Sequence[float]) -> tuple[float, float | None]:
    mean = math.fsum(logs) / len(logs)
    if len(logs) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1)
    return mean, math.sqrt(variance / len(logs))
