"""A curve's shape can get worse by good news: where fewer ranks got faster, more ranks scale less and lose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from reports.verdicts.members import JudgedSeries
from reports.verdicts.values import Metric

SCALING_METRICS: tuple[Metric, ...] = ("efficiency", "serial", "exposed")
MIN_LOG_SLOWDOWN = 0.005
"""ln of the least that a step must take longer for its scaling to have regressed."""
NO_SLOWDOWN_REASON = "its own step takes no longer: fewer ranks, or the compute, got faster"


def pass_scaling_without_slowdown(members: Sequence[JudgedSeries]) -> list[JudgedSeries]:
    """A shape that regressed in pairs passes where the same pairs show no slower step of the cell itself."""
    steps = {subject.key: series.pairs for subject, series, _ in members if subject.metric == "step"}
    adjusted = []
    for subject, series, verdict in members:
        pairs = steps.get(subject.key, ())
        step_not_slower = (
            verdict.status == "regressed"
            and verdict.metric in SCALING_METRICS
            and pairs
            and median(pairs) < MIN_LOG_SLOWDOWN
        )
        passed = verdict.model_copy(update={"status": "pass", "reason": f"{NO_SLOWDOWN_REASON}; {verdict.reason}"})
        adjusted.append((subject, series, passed if step_not_slower else verdict))
    return adjusted
