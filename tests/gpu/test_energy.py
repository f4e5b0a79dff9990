"""What the counter of energy reads of a load with a period, by its phase, and whether intervals hold the mean over all
phases. About 85 s of device time."""

from __future__ import annotations

import itertools
import time
from random import Random
from statistics import fmean, median, quantiles

import pytest

from bench.rank.random_pause import MAX_PAUSE_S
from reports.analysis.energy import window_power
from reports.analysis.energy_alias import ALIASED, alias_error, widened_for
from reports.analysis.stats import arithmetic_mean
from tests.gpu.alternating_load import measure, open_gpu
from tests.support.energy_counter import GPU

PERIOD_S, WINDOW_S, TRIALS, CELLS = 0.020, 1.4, 26, 2000
OTHER_PERIODS_S, OTHER_TRIALS = (0.010, 0.0217), 5
STEADY_S = 8.0


def power_of(node):
    power = window_power(node, GPU, "energy_j")
    assert power.value is not None, power.reason
    return power


def trials_of(busy, read, period_s, count, draw):
    """Trials as a sweep takes them: each begins after a random pause."""
    measured = []
    for _ in range(count):
        time.sleep(draw.uniform(0, MAX_PAUSE_S))
        measured.append(measure(busy, read, WINDOW_S, itertools.repeat(period_s)))
    return measured


@pytest.fixture(scope="module")
def counts(request):
    """How many trials, and how long the load without a period is: fewer in a dry run."""
    return (5, 1, 1.0) if request.config.getoption("--dry-run") else (TRIALS, OTHER_TRIALS, STEADY_S)


def test_interval_of_an_aliased_energy(device, record_figure, counts):
    """Energy of a load that is busy for half of each 20 ms: its alias, and how often intervals hold the mean"""
    draw = Random(5)
    trials, others, steady_s = counts
    with open_gpu(device) as (busy, read):
        measured = trials_of(busy, read, PERIOD_S, trials, draw)
        random_periods = (draw.uniform(0.5, 1.5) * PERIOD_S for _ in itertools.count())
        node, lengths, call_s = measure(busy, read, steady_s, random_periods)
        apart = {period_s: trials_of(busy, read, period_s, others, draw) for period_s in OTHER_PERIODS_S}
    watts = [power_of(node).value for node, _, _ in measured]
    mean_w, aliases = fmean(watts), [alias_error(lengths) for _, lengths, _ in measured]
    note = f"{trials} trials of {WINDOW_S} s, each after a random pause"
    record_figure("mean power over all phases", mean_w, "W", note=note)
    record_figure("lowest trial ÷ mean", min(watts) / mean_w, "1")
    record_figure("highest trial ÷ mean", max(watts) / mean_w, "1")
    record_figure("alias_error of these trials", median(aliases), "1", min(aliases), max(aliases), at_least=ALIASED)
    record_figure(
        "error by the ends of the window", max(power_of(node).end_error for node, _, _ in measured), "1", at_most=0.2
    )
    free = power_of(node)
    record_figure("the same load with periods of 10 to 30 ms ÷ mean", free.value / mean_w, "1", note=f"{steady_s:g} s")
    record_figure("alias_error of that", alias_error(lengths), "1", at_most=ALIASED)
    for count in (2, 3, 5):
        cells = [arithmetic_mean(draw.sample(watts, count), "W") for _ in range(CELLS)]
        plain = fmean(cell.low <= mean_w <= cell.high for cell in cells)
        wide = [widened_for(cell, median(aliases)) for cell in cells]
        held = fmean(cell.low <= mean_w <= cell.high for cell in wide)
        width = median((cell.high - cell.low) / 2 / mean_w for cell in wide)
        record_figure(
            f"intervals of {count} trials that hold the mean", held, "1", note=f"±{100 * width:.0f} %", at_least=0.9
        )
        record_figure(f"the same by Student's t alone, {count} trials", plain, "1")
    record_figure("cost of the pause", MAX_PAUSE_S / 2, "s", note="mean of a trial")
    record_figure("a call of the counter", median(call_s), "s", *quantiles(call_s, n=40)[::38], note="95 % of calls")
    for period_s, runs in apart.items():
        values = [power_of(node).value for node, _, _ in runs]
        expected = median(alias_error(lengths) for _, lengths, _ in runs)
        note = f"{others} trials, alias_error ±{100 * expected:.1f} %"
        spread = (max(values) - min(values)) / 2 / fmean(values)
        record_figure(f"half the range ÷ mean, period of {1e3 * period_s:g} ms", spread, "1", note=note)
