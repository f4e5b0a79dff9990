"""A curve's shape can get worse by good news: where fewer ranks got faster, more ranks scale less and lose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from reports.verdicts.members import Member
from reports.verdicts.values import Metric

SHAPE: tuple[Metric, ...] = ("efficiency", "serial", "exposed")
SLOWER = 0.005
"""ln of the least that a step must take longer for its scaling to have regressed."""
SAID = "its own step takes no longer: fewer ranks, or the compute, got faster"


def without_good_news(members: Sequence[Member]) -> list[Member]:
    """A shape that regressed in pairs passes where the same pairs show no slower step of the cell itself."""
    steps = {subject.key: series.pairs for subject, series, _ in members if subject.metric == "step"}
    found = []
    for subject, series, verdict in members:
        pairs = steps.get(subject.key, ())
        no_loss = verdict.status == "regressed" and verdict.metric in SHAPE and pairs and median(pairs) < SLOWER
        told = verdict.model_copy(update={"status": "pass", "reason": f"{SAID}; {verdict.reason}"})
        found.append((subject, series, told if no_loss else verdict))
    return found
