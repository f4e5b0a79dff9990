"""How the step times of each rank are distributed: percentiles, for description only.

Steps are not independent samples, so nothing here is an interval of anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import FrozenModel, RankRecord

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
