"""How often the interval of an aliased energy holds the mean over all phases, by simulation: the tables of
docs/concepts/energy.md. `pytest tests/perf/test_energy_coverage.py`, a quarter of a minute on one core."""

from __future__ import annotations

from statistics import fmean

import pytest

from reports.analysis.energy_alias import alias_error
from tests.support.energy_counter import Load, coverage, recorded_reading, simulated_reading

PHASES, TRIES, STEPS = 400, 10_000, 70
LOADS = {
    "recorded readings": None,
    "20 ms, busy for 50 %": Load(),
    "20 ms, busy for 10 %": Load(busy_share=0.1),
    "20 ms, busy for 25 %": Load(busy_share=0.25),
    "20 ms, busy for 75 %": Load(busy_share=0.75),
    "10 ms, busy for 50 %": Load(0.01),
    "40 ms, busy for 25 %": Load(0.04, busy_share=0.25),
    "100 ms, busy for 50 %": Load(0.1),
}


@pytest.mark.parametrize("name", LOADS)
def test_coverage(name, tell_whole):
    load = LOADS[name]
    read = recorded_reading if load is None else lambda phase: simulated_reading(phase, load)
    by_phase = [read(number / PHASES) for number in range(PHASES)]
    mean_w, alias = fmean(by_phase), alias_error([(load or Load()).period_s] * STEPS)
    low, high = (100 * (edge(by_phase) / mean_w - 1) for edge in (min, max))
    tell_whole(f"{name}: a trial reads {low:+.0f} to {high:+.0f} %, alias_error ±{100 * alias:.0f} %")
    tell_whole("| trials | held, same phase | held, random phase | half-width | held, allowing for it | half-width |")
    for trials in (2, 3, 5, 8, 10):
        cells = [
            coverage(lambda phase: by_phase[int(phase * PHASES)], mean_w, trials, TRIES, pause=pause, alias=allowed)
            for pause, allowed in ((False, 0.0), (True, 0.0), (True, alias))
        ]
        same, t, wide = cells
        tell_whole(
            f"| {trials} | {100 * same.held:.0f} % | {100 * t.held:.0f} % | ±{100 * t.half_width:.0f} % "
            f"| {100 * wide.held:.0f} % | ±{100 * wide.half_width:.0f} % |"
        )
