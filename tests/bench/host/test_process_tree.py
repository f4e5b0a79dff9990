"""Descendants are found and ended, whatever they did to get away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.host.process_tree import descendants_of, end_all, is_alive, kill_all
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by Linux only")

ADOPTER = """
import os, subprocess, sys, psutil
from bench.host.process_tree import adopt_orphans, children_of, descendants_of, end_all, release
assert adopt_orphans()
child = subprocess.Popen(["bash", "-c", {line!r}])
child.wait()
print(len(descendants_of(os.getpid())), flush=True)
def find():
    release(children_of(os.getpid()))
    return descendants_of(os.getpid())
assert end_all(find) == set()
print(len(psutil.Process().children(recursive=True)))
"""
TITLED = "trap '' TERM INT HUP; exec -a kworker/0:1 sleep 60"
RESTLESS = "while :; do (setsid sleep 60 &); sleep 0.01; done"


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("setsid sleep 60 & sleep 0.1", id="a session of its own"),
        pytest.param("(setsid env -i sleep 60 &) & sleep 0.3", id="forked twice, without an environment"),
        pytest.param(
            """setsid bash -c "trap '' TERM INT HUP; exec -a kworker/0:1 sleep 60" & sleep 0.1""", id="another title"
        ),
        pytest.param("setsid sleep 60 & kill -STOP $!", id="stopped"),
        pytest.param(f"setsid bash -c '{RESTLESS}' & sleep 0.2", id="starts others all the time"),
    ],
)
def test_an_orphan_of_any_kind_is_found_and_ended(line):
    program = ADOPTER.format(line=line)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, left = done.stdout.split()
    assert int(found) >= 1
    assert left == "0"


@pytest.mark.slow
def test_a_process_that_has_the_id_of_an_ended_one_is_left_alone():
    ended = subprocess.Popen(["sleep", "60"])
    known = psutil.Process(ended.pid)
    ended.kill()
    ended.wait()
    time.sleep(0.1)  # the kernel's clock of starts has ticks of 10 ms
    try:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(ended.pid - 1))
    except OSError:
        pytest.skip("only root chooses the next process id")
    unrelated = subprocess.Popen(["sleep", "60"])
    try:
        if unrelated.pid != ended.pid:
            pytest.skip("another process took the id")
        assert not is_alive(known)
        kill_all([known])
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


@pytest.mark.slow
def test_a_process_that_does_not_exist_has_no_descendants():
    process = subprocess.Popen(["true"])
    process.wait()
    assert descendants_of(process.pid) == set()


def test_what_does_not_end_is_told_and_not_waited_for():
    """As a process that waits for a device: SIGKILL takes effect when the device answers."""
    process = psutil.Process()
    began = time.monotonic()

    class Deaf(psutil.Process):
        def kill(self):
            return

    deaf = Deaf(process.pid)
    assert end_all(lambda: {deaf}, limit_s=0.1) == {deaf}
    assert time.monotonic() - began < 5
