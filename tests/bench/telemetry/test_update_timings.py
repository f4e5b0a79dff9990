"""How often NVML has new values: found through the real pynvml on the substitute library, and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from bench.core.update_timing import UpdateTiming
from bench.telemetry.probes.nvml.intervals import MEASURED, measure_intervals, usual_interval_s
from bench.telemetry.probes.nvml.timings import TABLE, power_averages_over_s
from tests.support import nvml_library
from tests.support.clocks import FakeClock
from tests.support.paths import ROOT

GPU = "GPU-00000000-0000-4000-8000-000000000000"
H200 = "update=0.1,energy_cost=0.0033,utilization_update=0.12"

DRIVER = """
import json, os, sys, time
from bench.telemetry.probes.nvml.probe import GpuProbe

def run(settings, interrupted):
    os.environ["SUBSTITUTE_NVML"] = settings
    probe = GpuProbe()
    began = time.monotonic()
    probe.prepare(lambda: interrupted)
    took = time.monotonic() - began
    probe.close()
    return took, [timing.model_dump() for timing in probe.update_timings]

print(json.dumps([run(*wanted) for wanted in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return nvml_library.build(tmp_path_factory.mktemp("nvml"))


def prepare(library, cache, *settings, interrupted=False):
    """How long each took, and the timings by device and name."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(library), "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    runs = json.dumps([(setting, interrupted) for setting in settings])
    command = [sys.executable, "-W", "error", "-c", DRIVER, runs]
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout
    return [
        (took, {(timing.device, timing.name): timing for timing in map(UpdateTiming.model_validate, found)})
        for took, found in json.loads(output)
    ]


def sources(timings):
    return {name: timings[GPU, name].source for name in MEASURED}


@pytest.mark.slow
def test_what_changes_is_measured_and_the_rest_is_of_the_table(library, tmp_path):
    for attempt in range(5):  # a busy machine may hide changes
        changing, still = prepare(library, tmp_path / str(attempt), f"{H200},gpm=1", "update=0.1,driver=1")
        if all(source == "measured" for source in sources(changing[1]).values()):
            break
    took, timings = changing
    assert 0.45 < took < 2
    assert timings.keys() == {(GPU, name) for name in TABLE}
    assert timings[GPU, "power_w"].update_s == pytest.approx(0.1, abs=0.01)
    assert timings[GPU, "energy_j"].update_s == pytest.approx(0.1, abs=0.01)
    assert timings[GPU, "utilization"].update_s == pytest.approx(0.12, abs=0.012)
    assert timings[GPU, "utilization"].averages_over_s == 0.2
    assert timings[GPU, "power_w"].averages_over_s == 0, "of an instant"
    assert (timings[GPU, "sm_activity"].averages_over_s, timings[GPU, "sm_activity"].source) == (0.2, "table")
    assert set(sources(timings).values()) == {"measured"}
    assert [name for name, timing in timings.items() if timing.at_changes] == [(GPU, "energy_j")]
    assert sources(still[1])["utilization"] == "table"
    assert still[1][GPU, "utilization"].update_s == TABLE["utilization"].update_s


@pytest.mark.slow
def test_it_is_found_once_for_each_gpu_and_driver(library, tmp_path):
    (_, found), (_, same), (_, other) = prepare(
        library, tmp_path, H200, H200.replace("0.1,", "0.05,"), f"{H200.replace('0.1,', '0.05,')},driver=999"
    )
    assert same == found, "it was not measured again, though the GPU is another one now"
    assert other != found


@pytest.fixture(scope="module")
def measured(library, tmp_path_factory):
    """The folder of a cache that one GPU's timings were kept in."""
    prepare(library, cache := tmp_path_factory.mktemp("measured"), H200)
    return cache


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        '{"gpu": "another", "driver": "580.159.04", "update_s": {}}',
        f'{{"gpu": "{GPU}", "driver": "580.159.04", "update_s": {{"energy_j": 1e12}}}}',
        f'{{"gpu": "{GPU}", "driver": "580.159.04", "update_s": {{"power_w": 1e-12}}}}',
        f'{{"gpu": "{GPU}", "driver": "580.159.04", "update_s": {{"sm_activity": 0.1}}}}',
    ],
)
def test_a_damaged_file_is_measured_again(library, measured, tmp_path, content):
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    (kept,) = tmp_path.rglob("*.json")
    right = kept.read_text()
    kept.write_text(content)
    ((took, timings),) = prepare(library, tmp_path, H200)
    assert took > 0.45
    assert timings.keys() >= {(GPU, name) for name in MEASURED}
    assert json.loads(kept.read_text()).keys() == json.loads(right).keys()


@pytest.mark.slow
def test_ranks_in_their_window_are_not_disturbed(library, tmp_path):
    ((_, timings),) = prepare(library, tmp_path, H200, interrupted=True)
    assert set(sources(timings).values()) == {"table"}
    assert not list(tmp_path.rglob("*.json")), "it is measured the next time"


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_the_time(library, tmp_path):
    (tmp_path / "scaling-harness").write_text("no folder")
    first, second = prepare(library, tmp_path, H200, H200)
    assert min(first[0], second[0]) > 0.45


@pytest.mark.slow
def test_power_is_a_mean_where_an_older_driver_knows_no_other(library, tmp_path):
    old, older_gpu, slices = prepare(
        library, tmp_path, f"{H200},fault=field186:3", f"{H200},fault=field186:3,capability=8.0", "mig=0"
    )
    assert old[1][GPU, "power_w"].averages_over_s == 1
    assert older_gpu[1][GPU, "power_w"].averages_over_s == 0
    assert {name for _, name in slices[1]} == {"sm_activity", "tensor_activity", "dram_activity"}


@pytest.mark.parametrize(
    ("has_instant_power", "capability", "expected"),
    [
        (True, (9, 0), 0),
        (False, (9, 0), 1),
        (False, (8, 6), 1),
        (False, (8, 0), 0),
        (False, (7, 5), 0),
        (False, None, 1),
    ],
)
def test_over_what_power_is_a_mean(has_instant_power, capability, expected):
    assert power_averages_over_s(has_instant_power, capability) == expected


def polled(changes, until_s, every_s):
    moments = [number * every_s for number in range(round(until_s / every_s))]
    return [(moment, float(sum(change <= moment for change in changes))) for moment in moments]


def test_intervals_are_those_between_changes():
    assert usual_interval_s(polled((0.05, 0.15, 0.25, 0.261, 0.361), 0.5, 0.002)) == pytest.approx(0.1, abs=0.004)
    assert usual_interval_s(polled((0.05, 0.15), 0.5, 0.002)) is None, "one interval may be anything"
    assert usual_interval_s(polled((), 0.5, 0.002)) is None
    assert usual_interval_s(polled((0.05, 0.15, 0.25, 0.35), 0.5, 0.04)) is None, "calls were too rare to tell"
    busy = [(at, value) for at, value in polled([0.1 * n for n in range(1, 7)], 0.7, 0.002) if not 0.17 < at < 0.33]
    assert usual_interval_s(busy) == pytest.approx(0.1, abs=0.004), "what was missed in between does not count"
    assert usual_interval_s([(0.01 * n, None) for n in range(50)]) is None


def test_measuring_ends_when_ranks_need_the_machine():
    clock, calls = FakeClock(), []

    def call():
        calls.append(clock.now)
        clock.sleep(0.01)
        return 1.0

    assert measure_intervals({("GPU", "power_w"): call}, lambda: clock.now > 0.1, clock, clock.sleep) is None
    assert len(calls) < 15
    assert measure_intervals({("GPU", "power_w"): call}, lambda: False, clock, clock.sleep) == {"GPU": {}}
