"""What the harness itself costs: throughput with timing and sampling on ÷ off, in the same processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.records import RankRecord, Trial
from reports.analysis.stats import Estimate, estimate


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
