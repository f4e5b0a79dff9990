"""Processes end with others, and are recognised by their state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from bench.host.processes import LAUNCHER_PID_VARIABLE, kill_session, pid_alive, process_state

pytestmark = pytest.mark.slow

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def until(condition, within_s=10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_stopped_process_is_alive(sleeper):
    assert pid_alive(sleeper.pid)
    assert process_state(sleeper.pid) == "running"
    sleeper.send_signal(signal.SIGSTOP)
    assert until(lambda: process_state(sleeper.pid) == "stopped")
    assert pid_alive(sleeper.pid)


def test_a_zombie_is_not_alive(sleeper):
    sleeper.kill()
    assert until(lambda: not pid_alive(sleeper.pid)), "it was not waited for yet"
    assert process_state(ended_pid()) == "ended"


def test_a_session_is_killed_with_every_process_group_in_it(sleeper):
    program = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen({SLEEP!r}, process_group=0)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with leader:
        child = int(leader.stdout.readline())
        assert os.getpgid(child) == child
        kill_session(leader.pid)
        assert leader.wait(timeout=10) == -signal.SIGKILL
    assert until(lambda: not pid_alive(child))
    assert pid_alive(sleeper.pid), "a process of another session"


@pytest.mark.parametrize("launcher", ["alive", "ended"])
def test_a_process_whose_launcher_has_ended_ends_too(launcher):
    program = "from bench.host.processes import die_with_launcher; die_with_launcher(); print('goes on')"
    env = {**os.environ, LAUNCHER_PID_VARIABLE: str(os.getpid() if launcher == "alive" else ended_pid())}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((0, "goes on\n") if launcher == "alive" else (1, ""))


def test_a_process_is_killed_with_its_parent():
    child = (
        "from bench.host.processes import die_with_parent; import time\n"
        "die_with_parent(); print('ready', flush=True); time.sleep(60)"
    )
    program = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); os._exit(0)"
    )
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    pid = int(parent.stdout)
    assert until(lambda: not pid_alive(pid))
