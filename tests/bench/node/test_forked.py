"""A forkserver that is stopped keeps nobody waiting: neither the start of a process nor its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from bench.host.processes import process_state
from bench.node.forked import StartError, join_within_limit, start_within_limit
from bench.node.forkserver import ProcessSpec, child_main, start_forkserver
from bench.node.guardian import find_forkserver

def forkserver_pid():
    return find_forkserver().pid

def make(context):
    spec = ProcessSpec(Path("rank.log"), command=("sleep", "60"))
    return context.Process(target=child_main, args=(spec,), name="rank 0")

if __name__ == "__main__":
    context = start_forkserver((), always=())
    first = make(context)
    start_within_limit(first)
    pid = forkserver_pid()
    began = time.monotonic()
    {steps}
    print(f"{{time.monotonic() - began:.1f}}")
    sys.stdout.flush()
"""
AT_THE_START = """
    os.kill(pid, signal.SIGSTOP)
    try:
        start_within_limit(make(context), stopped_limit_s=1)
    except StartError as problem:
        print(problem)
    first.join()
    second = make(context)
    start_within_limit(second)
    assert forkserver_pid() != pid
    second.kill()
    join_within_limit([second])
    print(second.exitcode)
"""
AT_THE_END = """
    os.kill(pid, signal.SIGSTOP)
    first.kill()
    join_within_limit([first], limit_s=1)
    print(first.exitcode)
    second = make(context)
    start_within_limit(second)
    second.kill()
    second.join()
    print(second.exitcode)
"""
AFTER_ITS_DEATH = """
    os.kill(pid, signal.SIGKILL)
    first.join()
    second = make(context)
    start_within_limit(second)
    second.kill()
    join_within_limit([second])
    print(second.exitcode)
"""


def run(tmp_path, steps: str) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM.format(steps=steps.strip()))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, took_s = done.stdout.splitlines()
    assert float(took_s) < 60
    return lines


def test_a_start_is_given_up_and_the_next_one_has_a_new_forkserver(tmp_path):
    message, status = run(tmp_path, AT_THE_START)
    assert message.startswith("rank 0 could not be started: the forkserver (process ")
    assert message.endswith(") was stopped by a signal")
    assert int(status) == -signal.SIGKILL


@pytest.mark.parametrize(("steps", "statuses"), [(AT_THE_END, [255, -9]), (AFTER_ITS_DEATH, [-9])])
def test_the_end_of_a_process_is_not_waited_for(tmp_path, steps, statuses):
    assert [int(line) for line in run(tmp_path, steps)] == statuses


def test_a_stopped_resource_tracker_ends_with_its_process(tmp_path):
    stop = """
    from multiprocessing import resource_tracker
    first.kill()
    join_within_limit([first])
    tracker = resource_tracker._resource_tracker._pid
    os.kill(tracker, signal.SIGSTOP)
    while process_state(tracker) != "stopped":
        time.sleep(0.01)
"""
    # It holds standard error open: the run itself would not come to its end.
    assert run(tmp_path, stop) == []


def test_a_start_without_room_for_open_files_says_so(tmp_path):
    full = """
    import resource
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
    try:
        start_within_limit(make(context))
    except StartError as problem:
        message = str(problem)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    print(message)
    first.kill()
    join_within_limit([first])
"""
    (message,) = run(tmp_path, full)
    assert message.startswith("rank 0 could not be started: Too many open files; use fewer ranks, or raise")
