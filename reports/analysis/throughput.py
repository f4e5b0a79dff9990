"""What the measured window of one trial gives. A step lasts as long as its slowest rank."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import RankRecord


def throughput_of(ranks: Sequence[RankRecord]) -> float:
    """Of all ranks, per second of the measured window; the window lasts as long as on its slowest rank."""
    window_s = max(sum(record.step_s) for record in ranks)
    return ranks[0].amount_per_step * len(ranks[0].step_s) / window_s


def slowest_steps(ranks: Sequence[RankRecord]) -> list[float]:
    """The duration of each step on its slowest rank, in seconds."""
    return [max(times) for times in zip(*(record.step_s for record in ranks), strict=True)]
