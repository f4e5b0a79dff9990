"""Scaling laws: how the throughput of N ranks depends on N.

With the throughput γ of one rank, X(N) = γN ÷ D(N):

    linear   D = 1
    log      D = 1 + σ·log₂N                as the rounds of a reduction by a tree: Thakur, Rabenseifner and Gropp
                                            2005, doi:10.1177/1094342005051521
    Amdahl   D = 1 + σ(N−1)                 Amdahl 1967, doi:10.1145/1465482.1465560
    USL      D = 1 + σ(N−1) + κN(N−1)       Gunther, Guerrilla Capacity Planning, 2007, ch. 4–6

σ is the share of contention (under ``log``, of each doubling), κ that of coherency; γ ≥ 0, 0 ≤ σ, κ ≤ 1. The time of a
given amount of work is T(N) ÷ T(1) = D(N) ÷ N, the sum of an ideal part, contention and coherency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

ScalingLaw = Literal["usl", "amdahl", "log", "linear"]
PARAMETER_NAMES = ("gamma", "sigma", "kappa")
PARAMETER_COUNT: Mapping[ScalingLaw, int] = {"usl": 3, "amdahl": 2, "log": 2, "linear": 1}
MIN_RANK_COUNTS: Mapping[ScalingLaw, int] = {"usl": 4, "amdahl": 3, "log": 3, "linear": 3}
"""One more than the parameters, so that a count is left to contradict the law; no law is claimed of two counts."""


def contention_growth(law: ScalingLaw, ranks: float) -> float:
    """The factor of σ in D(N)."""
    return math.log2(ranks) if law == "log" else ranks - 1


def denominator(ranks: float, sigma: float, kappa: float = 0.0, law: ScalingLaw = "usl") -> float:
    """D(N); of Amdahl's law and of linear scaling as of a USL whose last parameters are 0."""
    return 1 + sigma * contention_growth(law, ranks) + kappa * ranks * (ranks - 1)


def time_parts(ranks: int, sigma: float, kappa: float, law: ScalingLaw = "usl") -> dict[str, float]:
    """T(N) ÷ T(1) as ``ideal``, ``contention``, ``coherency``: they add up to D(N) ÷ N."""
    return {
        "ideal": 1 / ranks,
        "contention": sigma * contention_growth(law, ranks) / ranks,
        "coherency": kappa * (ranks - 1),
    }


def log_gradient(ranks: float, sigma: float, kappa: float, law: ScalingLaw = "usl") -> Any:
    """∂ ln X by (ln γ, σ, κ): a vector of three."""
    import numpy as np

    divisor = denominator(ranks, sigma, kappa, law)
    return np.array([1.0, -contention_growth(law, ranks) / divisor, -ranks * (ranks - 1) / divisor])
