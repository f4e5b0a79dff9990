"""Sweeps run by a program of a user's: in a thread, without a main guard, interrupted, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing

from harness.store.opening import open_store

PROGRAM = """
import json, sys, threading
import harness

def sweep(**options):
    return harness.run("lean.toml", backends="ddp", workloads="synthetic", ranks=[1, 2], window=0.2,
                       progress=lambda line: print(line, flush=True), **options)

def resumed():
    try:
        run = harness.run(resume=True, progress=False)
        results.append([run.exit_code, run.sweep, sorted(run.cells()["outcome"]), len(run.trials())])
    except BaseException as problem:
        results.append(repr(problem))

if sys.argv[1] == "begin":
    try:
        sweep(repeats=2)
    except KeyboardInterrupt:
        print("interrupted")
else:
    results = []
    thread = threading.Thread(target=resumed)
    thread.start()
    thread.join()
    print(json.dumps(results))
"""


def start(harness, *arguments: str) -> subprocess.Popen:
    program = harness.folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program), *arguments],
        cwd=harness.folder,
        env=harness.env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_a_trial_ended(process: subprocess.Popen) -> None:
    assert any(line.startswith("1/4 ") for line in process.stdout)


def stored(folder) -> int:
    with closing(open_store(str(folder / ".runs/results.sqlite"), create=False)) as store:
        return len(store.done(store.sweep("latest").id))


def test_a_sweep_ends_with_its_program_and_goes_on_in_another(harness):
    """No process is left, and no trial that had ended is lost."""
    harness.lean()
    with start(harness, "begin") as killed:
        until_a_trial_ended(killed)
        killed.kill()
    harness.nothing_left(within_s=60)
    first = stored(harness.folder)
    assert 1 <= first < 4
    with start(harness, "resume") as resumed:
        (result,) = json.loads(resumed.communicate(timeout=120)[0])
    assert result[0] == 0
    assert result[2:] == [["ok"] * 2, 4]
    harness.nothing_left(within_s=60)


def test_an_interrupt_ends_the_sweep_and_is_raised_in_the_program(harness):
    harness.lean()
    with start(harness, "begin") as interrupted:
        until_a_trial_ended(interrupted)
        os.kill(interrupted.pid, signal.SIGINT)
        assert interrupted.stdout.read().splitlines()[-1] == "interrupted"
    assert interrupted.returncode == 0
    harness.nothing_left(within_s=60)
    assert 1 <= stored(harness.folder) < 4
    assert list((harness.folder / ".runs").glob("*/report.html"))
