"""Whatever ends, and however: nothing that came from a trial's processes is left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by Linux only"),
]

MARK = "SCALING_TEST_MARK"
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
from bench.node.guardian import find_forkserver, guardian_pid, set_deadline

if __name__ == "__main__":
    if "deadline" in sys.argv:
        set_deadline(4)
    context = start_forkserver((), always=())
    away = "(setsid sleep 61 &) ; setsid bash -c 'trap \\"\\" TERM; sleep 62' & sleep 63"
    rank = start_process(context, ProcessSpec(Path("rank.log"), command=("bash", "-c", away)), "rank 0")
    time.sleep(0.5)
    pids = {"harness": os.getpid(), "forkserver": find_forkserver().pid, "guardian": guardian_pid(), "rank": rank.pid}
    print(" ".join(f"{name}={pid}" for name, pid in pids.items()), flush=True)
    time.sleep(0 if "end" in sys.argv else 60)
"""


class Started:
    def __init__(self, folder, *arguments: str) -> None:
        self.mark = f"{folder.name}-{os.getpid()}"
        (folder / "program.py").write_text(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, "program.py", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", MARK: self.mark},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        words = self.process.stdout.readline().split()
        self.pids = {name: int(pid) for name, pid in (word.split("=") for word in words)}

    def left(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline())[:60])
            except psutil.Error:
                continue
        return found

    def left_after(self, seconds: float) -> list[str]:
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.left()


@pytest.fixture
def start(tmp_path):
    started: list[Started] = []

    def make(*arguments: str) -> Started:
        started.append(Started(tmp_path, *arguments))
        return started[-1]

    yield make
    for one in started:
        for pid in (*one.pids.values(), one.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        one.process.wait()
        one.process.stdout.close()


@pytest.mark.parametrize("ended", ["harness", "forkserver"])
@pytest.mark.parametrize("stopped", [None, "forkserver", "rank"])
def test_nothing_outlives_what_is_killed(start, ended, stopped):
    trial = start()
    assert len(trial.left()) >= 6
    if stopped is not None:
        os.kill(trial.pids[stopped], signal.SIGSTOP)
    os.kill(trial.pids[ended], signal.SIGKILL)
    kept = 0 if ended == "harness" else 2  # itself and multiprocessing's resource tracker
    deadline = time.monotonic() + 10
    while len(trial.left()) > kept and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(trial.left()) <= kept, trial.left()


def test_a_guardian_that_is_stopped_with_all_others_ends_with_a_harness_that_is_killed(start):
    trial = start()
    for name in ("guardian", "forkserver", "rank"):
        os.kill(trial.pids[name], signal.SIGSTOP)
    os.kill(trial.pids["harness"], signal.SIGKILL)
    assert trial.left_after(10) == []


def test_nothing_outlives_a_harness_that_ends_well(start):
    trial = start("end")
    assert trial.process.wait(30) == 0
    assert trial.left_after(5) == []


def test_a_guardian_that_is_stopped_ends_with_a_harness_that_ends_well(start):
    """Also where it is stopped once it has been told to end."""
    trial = start("end")
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        while trial.process.poll() is None and time.monotonic() < began + 1:
            os.kill(trial.pids["guardian"], signal.SIGSTOP)
            time.sleep(0.001)
    trial.process.wait(30)
    assert trial.left_after(5) == []


def test_a_stopped_agent_ends_at_its_deadline(start):
    """Nobody else keeps the time of a trial on a host whose agent is stopped."""
    trial = start("deadline")
    os.kill(trial.pids["harness"], signal.SIGSTOP)
    assert trial.left_after(15) == []
    assert trial.process.wait(5) == -signal.SIGKILL
