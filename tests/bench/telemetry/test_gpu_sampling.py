"""The sampler's process beside a rank, with the real pynvml on a substitute library that is as slow as an H200's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from statistics import median

import pytest

from bench.core.recording import cut_to_window, read_recording
from bench.rank.progress import Progress
from reports.analysis.telemetry_window import TelemetryWindow
from tests.support import nvml_library
from tests.support.builders import make_case
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

GPU = "GPU-00000000-0000-4000-8000-000000000000"
H200 = "update=0.1,energy_cost=0.0033,utilization_update=0.2,gpm=1,power=400"
UPDATE_S = 0.1
WINDOW_S = 2.5


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The recording of a sampler beside a rank that warms up, measures and goes on, and the ends of its window."""
    library, folder = (tmp_path_factory.mktemp(name) for name in ("nvml", "trial"))
    nvml_library.build(library)
    case_file = folder / "case.json"
    case_file.write_text(make_case(telemetry="always", window_s=WINDOW_S).model_dump_json())
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library),
        "PYTHONPATH": str(ROOT),
        "SUBSTITUTE_NVML": H200,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "RANK": "0",
    }
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", "bench.rank.worker", "--case", str(case_file), "--role", "sampler"]
    sampler = subprocess.Popen([*command, "--out", str(folder)], env=env)

    def lines():
        return [line for path in folder.glob("telemetry-*") for line in path.read_text().splitlines()]

    try:
        progress = Progress(folder, 0)
        deadline_s = time.monotonic() + 30
        while len(lines()) < 4 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        progress.enter("warm-up step")
        time.sleep(0.5)
        progress.enter("measured step")
        began_s = time.monotonic()
        time.sleep(WINDOW_S)
        ended_s = time.monotonic()
        progress.enter("leaving")
        sampler.send_signal(signal.SIGTERM)
        assert sampler.wait(timeout=10) == 0
    finally:
        sampler.kill()
        sampler.wait()
    recording = read_recording(lines())
    return recording, TelemetryWindow(cut_to_window(recording, began_s, ended_s))


def test_energy_is_recorded_where_its_counter_changes(sampled):
    recording, view = sampled
    assert view.timing(GPU, "energy_j").at_changes
    samples = [sample for tick in recording.ticks for sample in tick.readings if sample.name == "energy_j"]
    times = [sample.at_s for sample in samples]
    assert times == sorted(times)
    # Each is at a whole number of updates from the others, though ticks are not.
    phases = [(later - times[0] + UPDATE_S / 2) % UPDATE_S - UPDATE_S / 2 for later in times]
    assert median(abs(phase - median(phases)) for phase in phases) < 0.01
    for early, late in pairwise(samples):
        if late.at_s - early.at_s > 0.5:
            assert (late.value - early.value) / (late.at_s - early.at_s) == pytest.approx(400, rel=0.1)


def test_energy_is_read_often_near_the_ends_of_the_window_and_rarely_between(sampled):
    _, view = sampled
    began_s, ended_s = view.node.began_s, view.node.ended_s
    times = view.series(GPU, "energy_j").times_s
    assert began_s - times[0] < 0.3
    assert times[-1] > ended_s, "the sampler went on until it had seen a change after the window"
    assert times[-1] - ended_s < 0.3
    assert len([at for at in times if began_s + 0.5 < at < ended_s - 0.5]) <= 3, "not at every tick"


def test_the_energy_of_the_window_is_right_although_each_value_is_stale(sampled):
    _, view = sampled
    assert view.power(GPU, "energy_j").value == pytest.approx(400, rel=0.03)


def test_the_other_readings_have_times_of_their_own_calls(sampled):
    recording, view = sampled
    tick = max(recording.ticks, key=lambda tick: len(tick.readings))
    times = {sample.name: sample.at_s for sample in tick.readings if sample.device == GPU}
    assert times["power_w"] <= times["utilization"] <= times["sm_activity"] <= tick.at_s
    assert len(set(times.values())) > 5
    for name in ("power_w", "utilization", "sm_activity"):
        assert view.mean(GPU, name).value is not None, view.mean(GPU, name).reason


def test_a_shorter_window_of_the_same_recording_says_what_it_needs(sampled):
    recording, view = sampled
    short = TelemetryWindow(cut_to_window(recording, view.node.began_s, view.node.began_s + 0.4))
    for name in ("power_w", "utilization", "sm_activity"):
        assert short.mean(GPU, name).reason == "window of 0.4 s: needs 1 s (--window or --steps)"
