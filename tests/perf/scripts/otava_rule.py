"""What Otava says of series; run by an interpreter that has it, with [[seconds of a night, …], …] as JSON on standard
input. Prints a list of true and false: whether it finds a change for the worse that begins in the newest nights.
"""

from __future__ import annotations

import json
import sys

from otava.series import Metric, Series

RECENT = 5
LESS_IS_BETTER = -1


def slower(nights: list[float]) -> bool:
    series = Series("made up", None, list(range(len(nights))), {"s": Metric(LESS_IS_BETTER)}, {"s": nights}, {})
    points = series.analyze().change_points["s"]
    return any(point.index >= len(nights) - RECENT and point.forward_change_percent() > 0 for point in points)


if __name__ == "__main__":
    json.dump([slower(nights) for nights in json.load(sys.stdin)], sys.stdout)
