"""How far predictions by scaling laws are off: published curves, whose last rank count is predicted from the others.

The interval's constant (:data:`reports.analysis.law_prediction.DOUBLING_ERROR`) is the conformal quantile of these
errors (Vovk, Gammerman and Shafer 2005, doi:10.1007/b106715): of n curves, the ⌈0.95·(n+1)⌉-th smallest of what a curve
needs for its interval to reach the measurement. Whether an interval held is judged with the constant of all other
curves, or of all curves of other sources, since curves of one source resemble each other.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Literal

from pydantic import Field

from bench.core.frozen_model import FrozenModel
from reports.analysis.law_prediction import NORMAL_QUANTILE, LawPrediction, walk_variance, weigh_laws
from reports.analysis.law_selection import NoLaw, describing_laws
from reports.analysis.laws import MIN_RANK_COUNTS, ScalingLaw
from reports.analysis.stats import CONFIDENCE


class PublishedCurve(FrozenModel):
    """A scaling curve as it was published."""

    name: str
    measured: str
    """What was run, and where."""
    unit: str
    per: Literal["all", "rank", "time"] = "all"
    """Whether a value is of all ranks, of each rank, or the time of a fixed amount of work."""
    ranks: tuple[int, ...]
    values: tuple[float, ...]
    group: str
    """Curves of one source share it."""
    source: str
    """Its address."""

    @property
    def throughputs(self) -> dict[int, tuple[float, ...]]:
        """Of all ranks, by rank count."""
        totals = {
            "all": lambda ranks, value: value,
            "rank": lambda ranks, value: value * ranks,
            "time": lambda ranks, value: 1 / value,
        }
        pairs = zip(self.ranks, self.values, strict=True)
        return {ranks: (totals[self.per](ranks, value),) for ranks, value in pairs}


class HeldOut(FrozenModel):
    """The last rank count of a curve, predicted from the smaller ones; without a law :attr:`reason` says why."""

    curve: PublishedCurve
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    """The interval, with the constant of the other curves."""
    weights: dict[ScalingLaw, float] = Field(default={})
    linear: float
    """The naive prediction by the efficiency of the smallest rank count."""
    last_efficiency: float
    """The naive prediction by the efficiency of the largest rank count among the smaller ones."""
    reason: str | None = None

    @property
    def measured(self) -> float:
        """The throughput at the last rank count."""
        return self.curve.throughputs[self.curve.ranks[-1]][0]

    @property
    def error(self) -> float | None:
        """Predicted ÷ measured − 1."""
        return None if self.predicted is None else self.predicted / self.measured - 1

    @property
    def held(self) -> bool | None:
        """Whether the interval contains the measured value."""
        return None if self.low is None or self.high is None else self.low <= self.measured <= self.high


class Accuracy(FrozenModel):
    """The errors of all curves in short; medians are of absolute relative errors, a curve without a law counts as
    infinitely far off."""

    curves: int
    without_law: int
    median_error: float
    median_error_linear: float
    median_error_last_efficiency: float
    ninth_decile: float
    """Nine tenths of the errors are at most this."""
    ninth_decile_linear: float
    ninth_decile_last_efficiency: float
    held: int
    """Intervals that contain the measured value."""


class Ahead(FrozenModel):
    """Predictions of all larger rank counts of each curve from its first three and more, by how far ahead they are."""

    doublings: int
    """log₂(N ÷ largest known N), rounded."""
    predictions: int
    held: int
    """Intervals that contain the measured value, with the constant of the other curves."""
    median_error: float
    """Of absolute relative errors."""


def parse_curves(text: str) -> tuple[PublishedCurve, ...]:
    """The curves of a TOML table ``[[curve]]``."""
    return tuple(PublishedCurve(**fields) for fields in tomllib.loads(text)["curve"])


def hold_out(curves: Sequence[PublishedCurve], *, by_group: bool = False) -> tuple[HeldOut, ...]:
    """Predict the last rank count of each curve from the others.

    Args:
        curves: of four rank counts or more.
        by_group: leave out all curves of the same group when the interval is calibrated, not only the curve itself.
    """
    errors = _needed_doubling_errors(curves)
    results = []
    for curve in curves:
        left_out = {other.name for other in curves if other == curve or (by_group and other.group == curve.group)}
        results.append(_held_out(curve, _fit_smaller(curve), _quantile_without(errors, left_out)))
    return tuple(results)


def calibrated_doubling_error(curves: Sequence[PublishedCurve]) -> float:
    """The constant of the interval, from all curves."""
    return conformal_quantile(list(_needed_doubling_errors(curves).values()))


def conformal_quantile(errors: Sequence[float]) -> float:
    """The ⌈0.95·(n+1)⌉-th smallest of n errors."""
    return sorted(errors)[min(len(errors), math.ceil(CONFIDENCE * (len(errors) + 1))) - 1]


def accuracy(results: Sequence[HeldOut]) -> Accuracy:
    """The errors of all curves in short."""
    errors = sorted(math.inf if result.error is None else abs(result.error) for result in results)
    linear = sorted(abs(result.linear / result.measured - 1) for result in results)
    last = sorted(abs(result.last_efficiency / result.measured - 1) for result in results)
    tenth = math.ceil(0.9 * len(results)) - 1
    return Accuracy(
        curves=len(results),
        without_law=sum(result.predicted is None for result in results),
        median_error=median(errors),
        median_error_linear=median(linear),
        median_error_last_efficiency=median(last),
        ninth_decile=errors[tenth],
        ninth_decile_linear=linear[tenth],
        ninth_decile_last_efficiency=last[tenth],
        held=sum(result.held is True for result in results),
    )


def look_ahead(curves: Sequence[PublishedCurve]) -> tuple[Ahead, ...]:
    """Judge predictions further ahead than the next rank count, the nearest first."""
    judged: dict[int, list[tuple[bool, float]]] = {}
    errors = _needed_doubling_errors(curves)
    for curve in curves:
        doubling_error = _quantile_without(errors, {curve.name})
        for known in range(min(MIN_RANK_COUNTS.values()), len(curve.ranks)):
            laws = _fit_smaller(curve, known)
            if isinstance(laws, str):
                continue
            for ranks in curve.ranks[known:]:
                prediction, (measured,) = laws.predict(ranks, doubling_error), curve.throughputs[ranks]
                assert prediction.low is not None
                assert prediction.high is not None
                held = prediction.low <= measured <= prediction.high
                doublings = round(math.log2(ranks / curve.ranks[known - 1]))
                judged.setdefault(doublings, []).append((held, abs(prediction.throughput / measured - 1)))
    return tuple(
        Ahead(
            doublings=doublings,
            predictions=len(results),
            held=sum(held for held, _ in results),
            median_error=median(error for _, error in results),
        )
        for doublings, results in sorted(judged.items())
    )


def _fit_smaller(curve: PublishedCurve, known: int = -1) -> LawPrediction | str:
    """The laws of the first rank counts, by default of all but the last, or the reason why there are none."""
    smaller = {ranks: curve.throughputs[ranks] for ranks in curve.ranks[:known]}
    try:
        return weigh_laws(smaller, describing_laws(smaller))
    except NoLaw as problem:
        return str(problem)


def _needed_doubling_errors(curves: Sequence[PublishedCurve]) -> dict[str, float]:
    """For each curve with a law the smallest q with which the interval contains the last measured value."""
    errors = {}
    for curve in curves:
        laws, last = _fit_smaller(curve), curve.ranks[-1]
        if not isinstance(laws, str):
            error = math.log(laws.predict(last).throughput / curve.throughputs[last][0])
            own = (NORMAL_QUANTILE * laws.backtest_error) ** 2
            errors[curve.name] = math.sqrt(max(0.0, error**2 / walk_variance(curve.ranks[:-1], last) - own))
    return errors


def _quantile_without(errors: Mapping[str, float], left_out: Collection[str]) -> float:
    return conformal_quantile([error for name, error in errors.items() if name not in left_out])


def _held_out(curve: PublishedCurve, laws: LawPrediction | str, doubling_error: float) -> HeldOut:
    first, before, last = curve.ranks[0], curve.ranks[-2], curve.ranks[-1]
    naive = {base: curve.throughputs[base][0] / base * last for base in (first, before)}
    result = HeldOut(curve=curve, linear=naive[first], last_efficiency=naive[before])
    if isinstance(laws, str):
        return result.model_copy(update={"reason": laws})
    prediction = laws.predict(last, doubling_error)
    return result.model_copy(
        update={
            "predicted": prediction.throughput,
            "low": prediction.low,
            "high": prediction.high,
            "weights": dict(laws.weights),
        }
    )
