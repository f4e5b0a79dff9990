"""The sampler: when it samples, when it pauses, and how it ends."""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest

from bench.core.case import PluginSource
from bench.core.recording import read_recording
from bench.core.telemetry import HOST, LIVE, Device, Header, Sample, Tick
from bench.plugins.probe import Probe
from bench.rank.progress import PhaseWatch, Progress
from bench.telemetry.edges import NEAR_EDGE_S, WindowEdges
from bench.telemetry.guarded import GuardedProbe
from bench.telemetry.pause import Alarm, hasten_sampling, open_lock, pause_sampling
from bench.telemetry.sampler import INTERVAL_S, open_probes, sample
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
    with open_lock(folder) as lock:
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


def test_a_slow_probe_does_not_make_the_readings_of_others_late(tmp_path):
    clock, recording = FakeClock(), io.StringIO()

    class Slow(CountingProbe):
        def read(self):
            clock.sleep(0.03)
            return super().read()

    with open_lock(tmp_path) as lock:
        sample([CountingProbe(), Slow()], StopAt(clock, INTERVAL_S), recording, lock, clock)
    (tick,) = (Tick.model_validate_json(line) for line in recording.getvalue().splitlines())
    assert (tick.at_s, [reading.at_s for reading in tick.readings]) == (0.03, [0.0, None])


def test_no_sample_is_taken_during_a_pause(tmp_path):
    clock, probe = FakeClock(), CountingProbe()
    with pause_sampling(tmp_path):
        assert sample_for(5 * INTERVAL_S, tmp_path, clock, probe) == []
        assert probe.reads == 0
    assert len(sample_for(2 * INTERVAL_S, tmp_path, clock, probe)) == 2


def test_the_sampler_ticks_more_often_from_its_next_tick_on_while_it_is_requested(tmp_path):
    clock = FakeClock()
    open_lock(tmp_path).close()
    with hasten_sampling(tmp_path, 0, 4):
        times = sample_for(INTERVAL_S, tmp_path, clock, CountingProbe())
        assert times == pytest.approx([number * INTERVAL_S / 4 for number in range(4)])
        with hasten_sampling(tmp_path, 1, 3), pause_sampling(tmp_path):
            assert sample_for(INTERVAL_S, tmp_path, clock, CountingProbe()) == []
    assert len(sample_for(2 * INTERVAL_S, tmp_path, FakeClock(), CountingProbe())) == 2


def test_a_request_that_wakes_the_sampler_holds_at_once(tmp_path):
    clock, recording, requests = FakeClock(), io.StringIO(), []

    class WokenOnce(StopAt):
        def wait(self, timeout):
            if requests:
                return super().wait(timeout)
            clock.sleep(INTERVAL_S / 10)
            requests.append(stack.enter_context(hasten_sampling(tmp_path, 0, 4)))
            return True

    with open_lock(tmp_path) as lock, ExitStack() as stack:
        sample([CountingProbe()], WokenOnce(clock, INTERVAL_S), recording, lock, clock)
    times = [tick["at_s"] for tick in map(json.loads, recording.getvalue().splitlines())]
    assert times == pytest.approx([share * INTERVAL_S for share in (0, 0.35, 0.6, 0.85)])


def test_a_rank_knows_whether_its_request_wakes_a_sampler(tmp_path):
    open_lock(tmp_path).close()
    with hasten_sampling(tmp_path, 0, 4) as at_once:
        assert not at_once
    alarm = Alarm()
    alarm.watch(tmp_path)
    with hasten_sampling(tmp_path, 0, 4) as at_once:
        assert at_once
    assert alarm.wait(60)
    assert not alarm.is_set()
    assert not alarm.wait(0)
    alarm.set()
    assert alarm.wait(60)
    assert alarm.is_set()


def test_a_sampler_that_hangs_does_not_hold_the_ranks(tmp_path):
    with open_lock(tmp_path) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # in the middle of a sample
        with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"), pause_sampling(tmp_path, timeout_s=0.1):
            pass


def test_nodes_that_share_a_folder_pause_by_themselves(tmp_path):
    with pause_sampling(tmp_path, node=1):
        assert len(sample_for(2 * INTERVAL_S, tmp_path, FakeClock(), CountingProbe())) == 2


@pytest.mark.slow
def test_a_pause_ends_with_the_process_that_requested_it(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from bench.telemetry.pause import pause_sampling\n"
        "with pause_sampling(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(sample_for(INTERVAL_S, tmp_path, FakeClock(), CountingProbe())) == 1


class PolledProbe(CountingProbe):
    """Wants to be polled every 0.01 s near the ends of a window and every 0.5 s else."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.polls = clock, []

    def due_s(self, near_edge):
        return max((at for at, _ in self.polls), default=0.0) + (0.01 if near_edge else 0.5)

    def poll(self, near_edge):
        self.polls.append((self.clock.now, near_edge))
        return [Sample(HOST, "cpu_energy_j", 5.0, None, self.clock.now)]


def poll_for(seconds, folder, phase_at):
    clock, recording = FakeClock(), io.StringIO()
    probe, edges = PolledProbe(clock), WindowEdges(lambda: phase_at(clock.now))
    with open_lock(folder) as lock:
        sample([probe], StopAt(clock, seconds), recording, lock, clock, edges, clock.sleep)
    header = Header(host="h", source=LIVE, interval_s=INTERVAL_S, devices=()).model_dump_json()
    return probe, read_recording([header, *recording.getvalue().splitlines()])


def test_what_a_probe_polls_is_dense_near_the_ends_of_a_window_and_ticks_go_on(tmp_path):
    probe, recording = poll_for(
        8.0, tmp_path, lambda now: "warm-up" if 1 <= now < 2 else "window" if 2 <= now < 7 else "outside"
    )

    def polls(began, ended):
        return len([at for at, _ in probe.polls if began < at < ended])

    assert polls(0, 1) <= 2
    assert polls(1, 2 + NEAR_EDGE_S) > 0.9 * 130
    assert 8 <= polls(2 + NEAR_EDGE_S, 7) <= 11
    assert polls(7, 7 + NEAR_EDGE_S) > 0.9 * 30, "its end is noticed soon"
    assert probe.reads == pytest.approx(8 / INTERVAL_S, abs=1)
    polled = [sample for tick in recording.ticks for sample in tick.readings if sample.name == "cpu_energy_j"]
    assert [sample.at_s for sample in polled] == [at for at, _ in probe.polls]


def test_nothing_is_polled_during_a_pause(tmp_path):
    looks = []
    with pause_sampling(tmp_path):
        probe, _ = poll_for(2.0, tmp_path, lambda now: looks.append(now) or "warm-up")
    assert (probe.polls, probe.reads) == ([], 0)
    assert len(looks) < 150, "and what is measured meanwhile is not disturbed by looking"


def test_a_probe_whose_schedule_fails_is_read_in_ticks():
    class Failing(CountingProbe):
        def due_s(self, near_edge):
            raise ZeroDivisionError("when?")

        def prepare(self, interrupted):
            raise OSError("not now")

    probe = GuardedProbe("failing", Failing)
    probe.prepare(lambda: False)
    assert (probe.due_s(near_edge=True), len(probe.read())) == (math.inf, 1)
    assert [problem.split(": ")[0] for problem in probe.problems] == [
        "probe failing could not be prepared",
        "probe failing failed",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reading_that_is_no_number_is_written_with_its_reason(value):
    class NoNumber(CountingProbe):
        def read(self):
            return [Sample(HOST, "cores", value)]

    assert GuardedProbe("odd", NoNumber).read() == [Sample(HOST, "cores", None, f"it was read as {value}")]


def test_the_phase_of_a_rank_is_read_from_its_progress(tmp_path):
    watch = PhaseWatch(tmp_path, 3)
    assert watch.read() == "outside", "it has not started"
    progress = Progress(tmp_path, 3)
    phases = []
    for phase in ("building the workload", "warm-up step", "measured step", "further measurements"):
        progress.enter(phase)
        phases.append(watch.read())
    assert phases == ["outside", "warm-up", "window", "outside"]
    (tmp_path / "progress-3").write_bytes(b"")
    assert watch.read() == "outside"
    watch.close()


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
    with open_lock(tmp_path) as lock:
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


@pytest.mark.slow
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
