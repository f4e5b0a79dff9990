"""When the phase of the steps decides what a counter of energy reads, by how much, and whether intervals hold that."""

from __future__ import annotations

from functools import cache
from random import Random
from statistics import fmean

import pytest

from bench.core.records import Window
from reports.analysis.cells import make_cells
from reports.analysis.energy_alias import ALIASED, alias_error
from reports.formats.trial_rows import SweepFacts, rows_of
from tests.support.builders import make_case, make_record, make_trial
from tests.support.energy_counter import (
    GPU,
    RECORDED_RANGE_W,
    RECORDED_W,
    Load,
    counted_series,
    coverage,
    recorded_reading,
    simulated_reading,
    telemetry_of,
)

PHASES = 80
SWEEP = SweepFacts(
    id="s1",
    started_at="2026-11-27T12:00:00+00:00",
    environment="e",
    commit=None,
    changed_files=None,
    host="here",
    system="Linux",
    cpu="CPU",
    cores=16,
    memory_bytes=2**30,
    gpus=("H200",),
    python="3.12",
    packages={},
)


@cache
def readings(load: Load) -> list[float]:
    """By phase."""
    return [simulated_reading(number / PHASES, load) for number in range(PHASES)]


def steps(length_s: float, window_s: float = 1.4, jitter_s: float = 0.0) -> list[float]:
    draw = Random(4)
    return [draw.gauss(length_s, jitter_s) for _ in range(round(window_s / length_s))]


def test_the_model_reads_what_an_h200_read():
    """Its eight readings within 5 %, wherever in a period the first of them was; other periods within about what was
    read."""
    mean_w = fmean(RECORDED_W)

    def misfit(first, direction):
        modelled = [
            simulated_reading(first + direction * number / len(RECORDED_W)) + mean_w - Load().mean_w
            for number in range(len(RECORDED_W))
        ]
        return fmean((ours - theirs) ** 2 for ours, theirs in zip(modelled, RECORDED_W, strict=True)) ** 0.5

    assert min(misfit(place / 40, direction) for place in range(40) for direction in (1, -1)) < 0.05 * mean_w
    for period_s, (low, high) in RECORDED_RANGE_W.items():
        modelled = readings(Load(period_s))
        assert max(modelled) - min(modelled) <= high - low + 0.02 * mean_w


@pytest.mark.parametrize("busy_share", [0.5, 0.25])
@pytest.mark.parametrize("length_s", [0.005, 0.01, 0.02, 0.0202, 0.03, 0.04, 0.1, 0.0137])
def test_the_error_is_about_what_the_counter_reads_at_most(length_s, busy_share):
    """Of steps that draw twice their mean power where they are busy."""
    idle_w = (1 - 2 * busy_share) / (1 - busy_share)
    by_phase = readings(Load(length_s, busy_share=busy_share, idle_w=idle_w, busy_w=2.0))
    assert fmean(by_phase) == pytest.approx(1, abs=0.01)
    assert max(abs(reading - 1) for reading in by_phase) <= alias_error(steps(length_s)) + 0.03


@pytest.mark.parametrize(
    ("step_s", "aliased"),
    [
        (steps(0.02), True),
        (steps(0.01), True),
        (steps(0.04), True),
        (steps(0.02 / 3), True),
        (steps(0.1), True),
        (steps(0.0201), True),
        (steps(0.0213), False),
        (steps(0.027), False),
        (steps(0.5), False),
        (steps(0.001), False),
        (steps(0.0201, window_s=20.0), False),
        (steps(0.02, jitter_s=0.0001), True),
        (steps(0.02, jitter_s=0.004), False),
        (steps(0.025, jitter_s=0.006), False),
        ([], False),
    ],
    ids=lambda value: f"{fmean(value) * 1e3:.1f} ms" if value and value is not True else "",
)
def test_steps_are_aliased_where_they_begin_at_few_phases_of_the_counter(step_s, aliased):
    """Not where they drift through all phases in the window, or vary in length."""
    assert (alias_error(step_s) >= ALIASED) == aliased


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("length_s", [0.005, 0.01, 0.0201, 0.03])
def test_blocks_count_as_their_single_steps(length_s, count):
    """The last one is shorter."""
    blocks_s, counts = steps(length_s, 0.5, jitter_s=0.0002), [count] * len(steps(length_s, 0.5))
    counts[-1] = (count + 1) // 2
    singles = [step_s for step_s, several in zip(blocks_s, counts, strict=True) for _ in range(several)]
    assert alias_error(blocks_s, counts) == pytest.approx(alias_error(singles), abs=1e-9)


def test_blocks_of_a_million_steps():
    """Their single steps would not fit into memory."""
    assert 0 <= alias_error([1e12, 0.02, 0.0137] * 1000, [1_000_000] * 3000) <= 1
    assert alias_error([0.02] * 1000, [1_000_000] * 1000) == pytest.approx(alias_error(steps(0.02)), rel=1e-3)


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
def test_the_interval_holds_the_mean_of_all_phases(trials):
    """Of the recorded readings, in at least 90 % of cells."""
    alias = alias_error(steps(0.02))
    mean_w = fmean(recorded_reading(number / 1000) for number in range(1000))
    assert coverage(recorded_reading, mean_w, trials, 1000, pause=True, alias=alias).held >= 0.9
    # Without the pause trials may agree on a wrong value; Student's t alone fails where few trials are on one side.
    assert coverage(recorded_reading, mean_w, trials, 1000, pause=False).held < 0.2
    if trials <= 3:
        assert coverage(recorded_reading, mean_w, trials, 1000, pause=True).held < 0.9


@pytest.mark.parametrize("trials", [3, 5])
@pytest.mark.parametrize(
    "load",
    [
        Load(),
        Load(busy_share=0.1),
        Load(busy_share=0.25),
        Load(busy_share=0.75),
        Load(0.01),
        Load(0.04, busy_share=0.25),
    ],
)
def test_the_interval_holds_the_mean_of_other_loads(load, trials):
    by_phase, alias = readings(load), alias_error(steps(load.period_s))
    held = coverage(lambda phase: by_phase[int(phase * PHASES)], fmean(by_phase), trials, 1000, pause=True, alias=alias)
    assert held.held >= 0.9


def sampled_trial(case, round_number, length_s, phase, block=1):
    """Steps of a GPU whose counter is simulated; ``block``: how many of them are timed together."""
    load = Load(length_s, first_s=phase * length_s)
    node = telemetry_of(counted_series(load.energy, 10.03, 11.43), 10.03, 11.43)
    window = Window(began_s=10.03, ended_s=11.43, cpu_s=1.4)
    blocks, rest = divmod(round(1.4 / length_s), block)
    record = make_record(
        step_s=(length_s,) * (blocks + bool(rest)),
        steps_per_entry=block,
        last_entry_steps=rest or None,
        gpu=GPU,
        window=window,
    )
    return make_trial(case, round_number, ranks=(record,), telemetry=(node,))


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize(("length_s", "flagged"), [(0.02, True), (0.0217, False)])
def test_a_cell_says_that_its_energy_is_aliased(length_s, flagged, block):
    """Its trials agree within 1 W."""
    case = make_case(ranks=1, backend="single", device="cuda")
    trials = [sampled_trial(case, number, length_s, 0.3 + 0.01 * number, block) for number in range(4)]
    (cell,) = make_cells([case], {}, trials, {})
    (error,) = cell.energy_errors
    (energy,) = [reading.estimate for reading in cell.usage if reading.name == "gpu_energy"]
    assert ("energy_aliased" in cell.flags) == flagged == error.is_aliased
    assert energy.unit == "J/sample"
    assert ((energy.high - energy.low) / energy.value > 0.3) == flagged
    row = next(rows_of(SWEEP, [cell], trials))
    assert row.gpu_energy_alias == pytest.approx(error.alias)
    assert 0 < row.gpu_energy_ends <= error.ends
