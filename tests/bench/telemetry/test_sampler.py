"""The sampler: when it samples, when it pauses, and how it ends."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import time

import psutil
import pytest

from bench.core.case import PluginSource
from bench.core.recording import read_recording
from bench.core.telemetry import HOST, LIVE, Device, Header, Sample
from bench.plugins.probe import Probe
from bench.telemetry.pause import pause_lock, pause_sampling
from bench.telemetry.sampler import INTERVAL_S, GuardedProbe, open_probes, sample
from tests.support.builders import make_case
from tests.support.clocks import FakeClock


class CountingProbe(Probe):
    devices = (Device(id=HOST, name="n1"),)

    def __init__(self):
        self.reads = 0

    def read(self):
        self.reads += 1
        return [Sample(HOST, "cores", float(self.reads))]


class StopAt:
    """Is set from a moment on; waiting lets time pass."""

    def __init__(self, clock, at_s):
        self.clock, self.at_s = clock, at_s

    def is_set(self):
        return self.clock.now >= self.at_s

    def wait(self, timeout):
        self.clock.sleep(timeout)
        return self.is_set()


def sample_for(seconds, folder, clock, probe):
    recording = io.StringIO()
    with pause_lock(folder).open("a") as lock:
        sample([probe], StopAt(clock, clock.now + seconds), recording, lock, clock)
    return [float(line.split('"at_s":')[1].split(",")[0]) for line in recording.getvalue().splitlines()]


def test_samples_are_taken_at_intervals(tmp_path):
    assert sample_for(5 * INTERVAL_S, tmp_path, FakeClock(), CountingProbe()) == pytest.approx(
        [number * INTERVAL_S for number in range(5)]
    )


def test_a_slow_probe_delays_the_next_sample_and_does_not_crowd_those_after_it(tmp_path):
    clock = FakeClock()

    class SlowProbe(CountingProbe):
        def read(self):
            clock.sleep(2.5 * INTERVAL_S if self.reads == 0 else 0)
            return super().read()

    times = sample_for(4 * INTERVAL_S, tmp_path, clock, SlowProbe())
    assert times == pytest.approx([2.5 * INTERVAL_S, 2.5 * INTERVAL_S, 3.5 * INTERVAL_S])


def test_no_sample_is_taken_during_a_pause(tmp_path):
    clock, probe = FakeClock(), CountingProbe()
    with pause_sampling(tmp_path):
        assert sample_for(5 * INTERVAL_S, tmp_path, clock, probe) == []
        assert probe.reads == 0
    assert len(sample_for(2 * INTERVAL_S, tmp_path, clock, probe)) == 2


def test_a_sampler_that_hangs_does_not_hold_the_ranks(tmp_path):
    with pause_lock(tmp_path).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # in the middle of a sample
        with pytest.raises(TimeoutError, match="no answer within"), pause_sampling(tmp_path):
            pass


def test_nodes_that_share_a_folder_pause_by_themselves(tmp_path):
    with pause_sampling(tmp_path, node=1):
        assert len(sample_for(2 * INTERVAL_S, tmp_path, FakeClock(), CountingProbe())) == 2


def test_a_pause_ends_with_the_process_that_requested_it(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from bench.telemetry.pause import pause_sampling\n"
        "with pause_sampling(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(sample_for(INTERVAL_S, tmp_path, FakeClock(), CountingProbe())) == 1


class FailingProbe(CountingProbe):
    """Fails at its second reading, gives a text for a number at its third, and can't list processes."""

    def read(self):
        readings = super().read()
        if self.reads == 2:
            raise ZeroDivisionError("midway")
        return [Sample(HOST, "cores", "many")] if self.reads == 3 else readings

    def processes(self):
        raise PermissionError(1, "Operation not permitted")


def test_a_probe_that_fails_midway_costs_its_readings_and_is_a_problem(tmp_path):
    clock, lines = FakeClock(), io.StringIO()
    probes = [GuardedProbe("failing", FailingProbe), GuardedProbe("counting", CountingProbe)]
    with pause_lock(tmp_path).open("a") as lock:
        sample(probes, StopAt(clock, clock.now + 4 * INTERVAL_S), lines, lock, clock)
    header = Header(host="h", source=LIVE, interval_s=INTERVAL_S, devices=()).model_dump_json()
    recording = read_recording([header, *lines.getvalue().splitlines()])
    assert [[reading.value for reading in tick.readings] for tick in recording.ticks] == [[1, 1], [2], [3], [4, 4]]
    first, second = recording.checks[-1].problems
    assert first == "probe failing failed: ZeroDivisionError: midway"
    assert second.startswith("probe failing failed: pydantic")
    assert probes[0].processes() == ([], [])
    assert (
        probes[0].problems[-1].endswith("could not list processes: PermissionError: [Errno 1] Operation not permitted")
    )


def test_a_probe_that_cannot_be_opened_leaves_the_others(tmp_path):
    text = "from bench.plugins.probe import ProbePlugin\nPROBE = ProbePlugin('broken', lambda case: 1 / 0)\n"
    broken = PluginSource(kind="probe", name="broken", file="broken.py", digest="d", attribute="PROBE", text=text)
    unloadable = broken.model_copy(update={"name": "unloadable", "text": "import not_installed_here"})
    probes = {probe.name: probe for probe in open_probes(make_case(plugins=(broken, unloadable)))}
    assert probes["broken"].problems == ("probe broken could not be opened: ZeroDivisionError: division by zero",)
    assert "not_installed_here" in probes["unloadable"].problems[0]
    assert probes["host"].read()
    assert probes["broken"].read() == []
    probes["broken"].close()


def test_the_role_records_until_sigterm(tmp_path):
    case_file = tmp_path / "case.json"
    case_file.write_text(make_case().model_dump_json())
    arguments = ("--case", str(case_file), "--role", "sampler", "--out", str(tmp_path))
    sampler = subprocess.Popen([sys.executable, "-m", "bench.rank.worker", *arguments])

    def ticks():
        files = tmp_path.glob("telemetry-*")
        texts = [text for text in (path.read_text() for path in files) if text.count("\n") > 1]
        return [tick for text in texts for tick in read_recording(text.splitlines()).ticks]

    try:
        deadline = time.monotonic() + 30
        while len(ticks()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(ticks()) >= 2
        assert psutil.Process(sampler.pid).nice() == min(os.nice(0) + 5, 19)
        sampler.terminate()
        assert sampler.wait(timeout=5) == 0
    finally:
        sampler.kill()
        sampler.wait()
    (path,) = tmp_path.glob("telemetry-*")
    recording = read_recording(path.read_text().splitlines())
    assert len(recording.checks) == 2, "the processes on GPUs are listed before and after"
