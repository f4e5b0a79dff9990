"""The process that runs mpirun or horovodrun on the first host, and what the launcher leaves there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from bench.host.processes import pid_alive
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from bench.node.launchers.runner import run_until_stdin_closes
run_until_stdin_closes(["bash", "-c", sys.argv[1]], {"PATH": "/usr/bin:/bin"})
"""


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while pid_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not pid_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by Linux only")
@pytest.mark.parametrize("end", ["close", "done", "kill"])
def test_what_a_launcher_leaves_ends_with_it(end):
    sleeping = "setsid sleep 60 & echo $!; "
    line = sleeping + ("sleep 0.2" if end == "done" else "echo $$; exec sleep 61")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, line],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    away = int(process.stdout.readline())
    launcher = away if end == "done" else int(process.stdout.readline())
    try:
        if end == "kill":
            process.send_signal(signal.SIGKILL)
            assert ends_within(launcher, 5), "the launcher ends its ranks on all hosts"
            os.kill(away, signal.SIGKILL)  # nobody is left here; the agents on the hosts end what ranks leave
        elif end == "close":
            process.stdin.close()
        assert ends_within(away, 10)
        assert ends_within(launcher, 10)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
