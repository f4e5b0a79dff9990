"""What the measured window of one trial gives. A step lasts as long as its slowest rank.

Speed-up and efficiency of one rank count against another, with intervals.

How the step times of each rank are distributed: percentiles, for description only.

Steps are not independent samples, so nothing here is an interval of anything.

What the harness itself costs: throughput with timing and sampling on ÷ off, in the same processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.core.frozen_model import FrozenModel
from bench.core.records import RankRecord, Trial
from reports.analysis.stats import Estimate, estimate, ratio


def throughput_of(ranks: Sequence[RankRecord]) -> float:
    """Of all ranks, per second of the measured window; the window lasts as long as on its slowest rank."""
    window_s = max(sum(record.step_s) for record in ranks)
    return ranks[0].amount_per_step * len(ranks[0].step_s) / window_s


def slowest_steps(ranks: Sequence[RankRecord]) -> list[float]:
    """The duration of each step on its slowest rank, in seconds."""
    return [max(times) for times in zip(*(record.step_s for record in ranks), strict=True)]


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


PERCENTILES = (5, 25, 50, 75, 95)


class StepTimes(FrozenModel):
    """Of one rank, over the steps of all trials. Times are seconds."""

    rank: int
    steps: int
    trials: int
    p5_s: float
    p25_s: float
    median_s: float
    p75_s: float
    p95_s: float
    slowest_s: float


def step_times_of(trials: Sequence[Sequence[RankRecord]]) -> tuple[StepTimes, ...]:
    """One a rank. ``trials``: the records of each, of the same ranks. Percentiles are interpolated between steps.

    Raises ``ValueError`` where ranks of one trial took different numbers of steps.
    """
    if not trials:
        return ()
    import numpy as np

    by_rank = [sorted(ranks, key=lambda record: record.rank) for ranks in trials]
    # Ranks × steps of all trials.
    steps = np.concatenate([[record.step_s for record in ranks] for ranks in by_rank], axis=1)
    times_s = [*np.percentile(steps, PERCENTILES, axis=1), steps.max(axis=1)]
    return tuple(
        StepTimes(
            rank=record.rank,
            steps=steps.shape[1],
            trials=len(trials),
            p5_s=p5,
            p25_s=p25,
            median_s=p50,
            p75_s=p75,
            p95_s=p95,
            slowest_s=slowest,
        )
        for record, p5, p25, p50, p75, p95, slowest in zip(
            by_rank[0], *(found.tolist() for found in times_s), strict=True
        )
    )


def own_cost(trials: Sequence[Trial]) -> Estimate | None:
    """Throughput watched ÷ unwatched, each trial one observation; ``None`` where none was asked. 0.99: it costs 1 %."""
    ratios = [found for trial in trials if trial.outcome == "ok" and (found := overhead_ratio(trial.ranks)) is not None]
    return estimate(ratios, "1") if ratios else None


def overhead_ratio(ranks: Sequence[RankRecord]) -> float | None:
    """Of one trial: the geometric mean over neighbouring blocks, each as long as on its slowest rank."""
    costs = [rank.own_cost for rank in ranks if rank.own_cost is not None]
    if not costs or len(costs) != len(ranks):
        return None
    watched = [max(times) for times in zip(*(cost.watched_s for cost in costs), strict=True)]
    unwatched = [max(times) for times in zip(*(cost.unwatched_s for cost in costs), strict=True)]
    logs = [math.log(off / on) for on, off in zip(watched, unwatched, strict=True)]
    return math.exp(math.fsum(logs) / len(logs))
