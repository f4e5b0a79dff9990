"""A sweep ends with the program that runs it: one without a main guard, that waits in its main thread or in another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

from harness.store.opening import open_store

TRIALS = 8
PROGRAM = """
import sys, threading
import harness

def show(line):
    print(line, flush=True)

def resume():
    harness.run(resume=True, progress=show)

if sys.argv[1] == "begin":
    try:
        cases = {"backends": "ddp", "workloads": "synthetic", "ranks": [1, 2]}
        harness.run("lean.toml", repeats=4, window=0.2, progress=show, **cases)
    except KeyboardInterrupt:
        print("interrupted")
else:
    thread = threading.Thread(target=resume)
    thread.start()
    thread.join()
"""


def start(harness, action: str) -> subprocess.Popen:
    program = harness.folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), action]
    return subprocess.Popen(command, cwd=harness.folder, env=harness.env, stdout=subprocess.PIPE, text=True)


def until_a_trial_ended(process: subprocess.Popen) -> None:
    assert any(line.startswith("1/") for line in process.stdout)


def stored(folder) -> int:
    with closing(open_store(str(folder / ".runs/results.sqlite"), create=False)) as store:
        return len(store.done(store.sweep("latest").id))


def test_a_sweep_ends_with_its_program_and_no_trial_is_lost(harness):
    """Interrupted, it reports and the interrupt is raised in the program; killed, its sweep ends all the same."""
    harness.lean()
    with start(harness, "begin") as interrupted:
        until_a_trial_ended(interrupted)
        os.kill(interrupted.pid, signal.SIGINT)
        assert interrupted.stdout.read().splitlines()[-1] == "interrupted"
    assert interrupted.returncode == 0
    harness.nothing_left(within_s=60)
    first = stored(harness.folder)
    assert 1 <= first < TRIALS
    assert list((harness.folder / ".runs").glob("*/report.html"))
    with start(harness, "resume") as killed:
        until_a_trial_ended(killed)
        killed.kill()
    harness.nothing_left(within_s=60)
    assert first < stored(harness.folder) < TRIALS
