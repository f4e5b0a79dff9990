"""What a process group starts is known as its trial's, on real processes, and what others have started is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.core.case import Role
from bench.host.ownership import TrialProcessIds, judge, read_facts
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
from bench.node.guardian import guardian_pid
from bench.node.supervisor import ProcessGroup
from bench.node.worker_process import WorkerProcess

pytestmark = pytest.mark.slow

WORKER = Role(name="worker", count=1, service=True)
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
leader = subprocess.Popen(["sleep", "60"], start_new_session=True, env={})
program = "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
orphan = subprocess.run([sys.executable, "-c", program], capture_output=True, start_new_session=True).stdout
print(os.getpid(), child.pid, leader.pid, int(orphan), flush=True)
time.sleep(60)
"""
"""Prints four process ids: its own, and those of a child, of one in a session of its own, of one without a parent."""


@pytest.fixture(scope="module")
def context():
    with pytest.MonkeyPatch.context() as patch:
        # Else each new process imports pytest, as the file that this one was started with.
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)
        patch.setattr(sys.modules["__main__"], "__spec__", None)
        yield start_forkserver((), always=())


def family(context, group, tmp_path, name: str) -> list[int]:
    log = tmp_path / f"{name}.log"
    spec = ProcessSpec(log, command=(sys.executable, "-c", FAMILY))
    group.add(WorkerProcess(WORKER, 0, start_process(context, spec, name), log, None))
    deadline = time.monotonic() + 20
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(pid) for pid in log.read_text().split()]


def owners(group, folder, pids) -> list[bool | None]:
    trial = TrialProcessIds.read(group.trial_processes.environment(), str(folder), frozenset())
    return [judge(pid, read_facts(pid), trial).ours for pid in pids]


def test_all_that_a_trial_starts_is_its_own_without_a_rank_being_named(context, tmp_path):
    group = ProcessGroup(tmp_path)
    stranger = subprocess.Popen(["sleep", "60"])  # of the same user, in the session of the harness
    try:
        pids = family(context, group, tmp_path, "dask")
        assert owners(group, tmp_path, pids) == [True] * 4
        assert owners(group, tmp_path, [stranger.pid, os.getpid(), os.getppid()]) == [False] * 3
    finally:
        stranger.kill()
        stranger.wait()
        group.end()
    assert owners(group, tmp_path, pids) == [None] * 4


def test_what_a_trial_left_is_not_the_next_one_s(context, tmp_path):
    before = ProcessGroup(tmp_path)
    try:
        left = family(context, before, tmp_path, "before")
        following = ProcessGroup(tmp_path)
        try:
            pids = family(context, following, tmp_path, "following")
            assert owners(following, tmp_path, pids) == [True] * 4
            assert owners(following, tmp_path, left) == [False] * 4
            trial = TrialProcessIds.read(following.trial_processes.environment(), str(tmp_path), frozenset())
            assert {judge(pid, read_facts(pid), trial).relation for pid in left} == {"left by an earlier trial"}
            assert owners(following, tmp_path, [guardian_pid()]) == [True]
        finally:
            following.end()
    finally:
        before.end()
