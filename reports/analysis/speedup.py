"""Speed-up and efficiency of one rank count against another, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.stats import Estimate, ratio


def speedup_and_efficiency(
    rates: Sequence[float], ranks: int, base_rates: Sequence[float], base_ranks: int
) -> tuple[Estimate, Estimate]:
    """S = X(N) ÷ X(base) × base ranks and E = S ÷ N, from repeated throughputs; exact where N is the base."""
    if ranks == base_ranks:
        exact = Estimate(value=float(base_ranks), low=None, high=None, n=len(rates), unit="×")
        return exact, exact.model_copy(update={"value": 1.0, "unit": "1"})
    return (
        ratio(rates, base_rates, factor=base_ranks),
        ratio(rates, base_rates, factor=base_ranks / ranks, unit="1"),
    )
