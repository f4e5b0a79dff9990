"""Which scaling laws describe a curve, and which of them is shown.

A law that misses a measured rank count by more than :data:`MAX_MISS` does not describe the curve: it is neither shown
nor used for predictions. Where all miss, there is no law. A USL must also be significantly better than Amdahl's law
(κ > 0 at 95 %), since its third parameter bends a short curve at will.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

from reports.analysis import formatting
from reports.analysis.laws import MIN_RANK_COUNTS, ScalingLaw
from reports.analysis.scaling import CannotFit, Fit, FitMethod, fit
from reports.analysis.stats import estimate

MAX_MISS = 0.2
"""Of the smaller of both, law and measurement."""

RICHER_LAWS: Mapping[ScalingLaw, str] = {"usl": "kappa", "amdahl": "sigma"}
"""With their last parameters, the richest first."""
Rates = Mapping[int, Sequence[float]]
"""Throughputs of the repeats by rank count."""


class NoLaw(ValueError):
    """No law describes the curve; the message says how far the closest is off."""


def points_of(rates: Rates) -> list[tuple[int, float]]:
    """``(ranks, throughput)`` of every repeat, the fewest ranks first."""
    return [(ranks, rate) for ranks, repeats in sorted(rates.items()) for rate in repeats]


def residuals(rates: Rates, fit_result: Fit) -> dict[int, float]:
    """The deviation of the mean of the repeats from the law, as a share of the law; by rank count."""
    return {
        ranks: estimate(repeats, "/s").value / fit_result.throughput(ranks) - 1
        for ranks, repeats in sorted(rates.items())
    }


def largest_miss(rates: Rates, fit_result: Fit) -> tuple[int, float]:
    """The rank count that the law misses most, and ln(law ÷ measured) there."""
    misses = {ranks: -math.log1p(residual) for ranks, residual in residuals(rates, fit_result).items()}
    return max(misses.items(), key=lambda item: abs(item[1]))


def miss_text(rates: Rates, fit_result: Fit) -> str | None:
    """How far a law misses a rank count; ``None`` where it misses none by more than :data:`MAX_MISS`."""
    ranks, miss = largest_miss(rates, fit_result)
    if abs(miss) <= math.log1p(MAX_MISS):
        return None
    where = formatting.ranks(ranks)
    if miss > 0:
        return f"{fit_result.model} is {formatting.share(math.expm1(miss), 1)} above what was measured at {where}"
    return f"what was measured at {where} is {formatting.share(math.expm1(-miss), 1)} above {fit_result.model}"


def describing_laws(rates: Rates, method: FitMethod = "log") -> dict[ScalingLaw, Fit]:
    """The laws that describe a curve, fitted, the richest first.

    Raises:
        CannotFit: there are too few rank counts for any law.
        NoLaw: all laws miss a rank count.
        ValueError: a throughput is not positive.
    """
    return _describing(rates, _fits(rates, method, get_args(ScalingLaw)))


def shown_law(rates: Rates, method: FitMethod = "log") -> Fit:
    """Of the laws that describe a curve the richest whose last parameter is significant: USL for κ > 0, Amdahl for
    σ > 0; else linear, else the closest one. Others are not fitted where a richer one is shown.

    Raises:
        CannotFit, NoLaw, ValueError: as :func:`describing_laws`.
    """
    fits: dict[ScalingLaw, Fit] = {}
    for law, last in RICHER_LAWS.items():
        fits |= _fits(rates, method, [law])
        if law in fits and is_significant(fits[law], last) and miss_text(rates, fits[law]) is None:
            return fits[law]
    others = [law for law in get_args(ScalingLaw) if law not in fits]
    laws = _describing(rates, fits | _fits(rates, method, others))
    return laws["linear"] if "linear" in laws else min(laws.values(), key=lambda fit_result: fit_result.spread)


def _fits(rates: Rates, method: FitMethod, laws: Sequence[ScalingLaw]) -> dict[ScalingLaw, Fit]:
    """Those of the laws for which there are enough rank counts, fitted."""
    fewest = min(MIN_RANK_COUNTS.values())
    if len(rates) < fewest:
        raise CannotFit(f"a scaling law needs {fewest} rank counts, there {_are(len(rates))}")
    return {law: fit(points_of(rates), law, method) for law in laws if len(rates) >= MIN_RANK_COUNTS[law]}


def _describing(rates: Rates, fits: Mapping[ScalingLaw, Fit]) -> dict[ScalingLaw, Fit]:
    fits = {law: found for law, found in fits.items() if law != "usl" or is_significant(found, "kappa")}
    laws = {law: fit_result for law, fit_result in fits.items() if miss_text(rates, fit_result) is None}
    if not laws:
        closest = min(fits.values(), key=lambda fit_result: abs(largest_miss(rates, fit_result)[1]))
        raise NoLaw(f"no scaling law is within {formatting.share(MAX_MISS)} of the curve: {miss_text(rates, closest)}")
    return laws


def _are(count: int) -> str:
    return f"{'is' if count == 1 else 'are'} {count}"


def is_significant(fit_result: Fit, parameter: str) -> bool:
    """Whether the 95 % interval of a parameter excludes 0."""
    low = getattr(fit_result, parameter).low
    return low is not None and low > 0
