"""What asv says of results; run by an interpreter that has asv, with the nights' samples as JSON on standard input.

``compare FACTOR``: [[before, newest], …]; ``publish``: [[night, …], …]; each night a list of seconds. Prints a list of
true and false. As `asv run` stores results by default: medians with their statistics, and no samples.
"""

from __future__ import annotations

import json
import sys

from asv._stats import get_weight
from asv.commands.compare import _is_result_better
from asv.step_detect import detect_regressions, detect_steps
from asv_runner.statistics import compute_stats

RECENT = 5
THRESHOLD = 0.05
"""What `asv publish` takes where `regressions_thresholds` is not set."""


def compared(before: list[float], newest: list[float], factor: float) -> bool:
    (value_before, stats_before), (value, stats) = compute_stats(before, 1), compute_stats(newest, 1)
    return bool(_is_result_better(value_before, value, (stats_before, None), (stats, None), factor))


def published(nights: list[list[float]]) -> bool:
    results = [compute_stats(night, 1) for night in nights]
    steps = detect_steps([value for value, _ in results], [get_weight(stats) for _, stats in results])
    _, _, jumps = detect_regressions(steps, THRESHOLD)
    return any(after >= len(nights) - RECENT for _, after, *_ in jumps or ())


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    if sys.argv[1] == "compare":
        json.dump([compared(*pair, float(sys.argv[2])) for pair in asked], sys.stdout)
    else:
        json.dump([published(nights) for nights in asked], sys.stdout)
