"""A gap between clocks shows that this process did not run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from bench.host.suspension import ClockReadings, RunningTime, SuspensionWatch, find_suspension_s, read_clocks
from tests.support.clocks import FakeClock

BEFORE = ClockReadings(monotonic_s=100.0, boot_s=500.0, wall_s=1_700_000_000.0)


def later(monotonic_s: float, boot_s: float, wall_s: float) -> ClockReadings:
    return ClockReadings(BEFORE.monotonic_s + monotonic_s, BEFORE.boot_s + boot_s, BEFORE.wall_s + wall_s)


@pytest.mark.parametrize(
    ("after", "missing_s"),
    [
        pytest.param(later(1.0, 1.0, 1.0), 0.0, id="a wait as long as expected"),
        pytest.param(later(0.2, 0.2, 0.2), 0.0, id="a shorter wait"),
        pytest.param(later(3.5, 3.5, 3.5), 0.0, id="a busy machine"),
        pytest.param(later(61.0, 61.0, 61.0), 60.0, id="Ctrl-Z, or a frozen container"),
        pytest.param(later(1.0, 61.0, 61.0), 60.0, id="the lid of a laptop"),
        pytest.param(later(1.0, 1.0, 61.0), 60.0, id="a paused virtual machine"),
        pytest.param(later(1.0, 1.0, -3600.0), 0.0, id="a clock that was set back"),
    ],
)
def test_the_clock_that_went_furthest_counts(after, missing_s):
    assert find_suspension_s(BEFORE, after, expected_s=1.0) == pytest.approx(missing_s)


def test_suspensions_add_up():
    readings = iter([BEFORE, later(11.0, 11.0, 11.0), later(12.0, 12.0, 12.0), later(13.0, 33.0, 33.0)])
    watch = SuspensionWatch(1.0, lambda: next(readings))
    assert [watch.suspended_s for _ in range(3)] == pytest.approx([10.0, 10.0, 30.0])


def test_the_clocks_of_this_machine_agree_while_it_runs():
    before = read_clocks()
    time.sleep(0.05)
    assert find_suspension_s(before, read_clocks(), expected_s=0.05) == 0.0
    assert read_clocks().monotonic_s > before.monotonic_s


def test_the_time_that_a_process_ran_is_without_its_stops():
    clock = FakeClock()
    running = RunningTime(1.0, clock)
    for step_s, expected_s in ((0.5, 0.5), (61.0, 1.5), (0.5, 2.0), (1.0, 3.0)):
        clock.sleep(step_s)
        assert running.seconds == pytest.approx(expected_s)


@pytest.mark.slow
def test_a_watch_in_a_thread_sees_that_its_process_was_stopped():
    program = (
        "from bench.host.suspension import SuspensionWatch\n"
        "watch = SuspensionWatch(0.1); watch.start(); print('ready', flush=True); input()\n"
        "print(watch.suspended_s)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(3.5)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate("\n", timeout=30)
    assert 3.0 <= float(output) < 10.0
