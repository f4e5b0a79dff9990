"""However a trial or a sweep ends, it says why, the rest is there, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from random import Random

import psutil
import pytest

from bench.host.scratch import SHARED_MEMORY, SHARED_MEMORY_VARIABLE, remove_abandoned


def until_first_trial(harness, process, within_s: float = 90) -> None:
    """Wait until a trial is in the store and the ranks of a later one have begun."""
    runs = harness.folder / ".runs"
    deadline = time.monotonic() + within_s
    earlier: set[Path] | None = None
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        running = {path.parent for path in runs.glob("*/*/progress-*")}
        if earlier is None:
            with contextlib.suppress(sqlite3.OperationalError), sqlite3.connect(runs / "results.sqlite") as store:
                if store.execute("select count(*) from trials").fetchone()[0]:
                    earlier = running
        elif running - earlier:
            return
        time.sleep(0.02)
    raise AssertionError(f"no trial within {within_s:.0f} s")


LONG_CASES = ("--workloads", "synthetic", "--ranks", "2", "--repeats", "50", "--window", "0.2")
LONG = ("--backends", "ddp", *LONG_CASES)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_sweep_is_tidy_and_resumed_as_it_was_asked_for(harness, sign):
    harness.preloaded &= sign != signal.SIGINT
    process = harness.start("sweep", harness.lean(), *LONG)
    until_first_trial(harness, process)
    if sign == signal.SIGTERM:
        for refused in (harness.run("sweeps", "delete", "latest", "--yes"), harness.run("sweep", "--resume")):
            assert refused.returncode == 2
            assert "is running" in refused.stderr or "another process runs or deletes it" in refused.stderr
    process.send_signal(sign)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "report: " in out
    harness.nothing_left()
    document = json.loads(harness.run("report", "--json").stdout)
    assert document["cells"][0]["trials"] >= 1
    other = harness.run("sweep", "--resume", "--backends", "horovod")
    assert other.returncode == 2
    assert "was started by `python -m harness sweep lean.toml --backends ddp" in other.stderr


@pytest.mark.parametrize("transport", ["ddp.transport=gloo", "horovod.transport=mpi", "dask.transport=tasks"])
def test_a_harness_that_is_killed_leaves_its_trials_and_no_process(harness, transport):
    temporary = harness.folder / "tmp"
    temporary.mkdir()
    harness.env["TMPDIR"] = str(temporary)
    asked = ("--backends", transport.split(".")[0], "--set", transport, *LONG_CASES)
    process = harness.start("sweep", harness.lean(), *asked)
    until_first_trial(harness, process)
    variables = [child.environ() for child in psutil.Process(process.pid).children()]
    shared = {Path(env[SHARED_MEMORY_VARIABLE]) for env in variables if SHARED_MEMORY_VARIABLE in env}
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    harness.nothing_left(within_s=10)
    assert shared
    # Its folders in shared memory may be gone: every start on this machine removes what is abandoned there.
    assert list(temporary.iterdir()), "a killed process removes nothing"
    # As the next start on this machine does.
    for folder in (temporary, SHARED_MEMORY):
        remove_abandoned(folder)
    assert list(temporary.iterdir()) == []
    assert not any(folder.exists() for folder in shared)
    document = json.loads(harness.run("report", "--json").stdout)
    assert document["cells"][0]["trials"] >= 1
    assert document["cells"][0]["outcome"] == "ok"


def test_a_suspended_trial_is_taken_again_and_not_stored_as_a_slow_one(harness):
    """As by Ctrl-Z, or when a container is frozen: nothing of the sweep runs for a while."""
    asked = ("--backends", "ddp", "--workloads", "synthetic", "--ranks", "2", "--repeats", "2", "--window", "0.5")
    process = harness.start("sweep", harness.lean(), *asked, "--json")
    until_first_trial(harness, process)
    frozen = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in frozen:
        one.send_signal(signal.SIGSTOP)
    time.sleep(4.5)
    for one in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.search(r"round 2: .* (did not run|was stopped by a signal) for \d+ s.*; this trial is taken again", err)
    (cell,) = json.loads(out)["cells"]
    assert (cell["outcome"], cell["trials"]) == ("ok", 2)
    assert [one["name"] for one in cell["conditions"] if one["name"] == "taken_again"] == ["taken_again"]
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        trials = [json.loads(body) for (body,) in store.execute("select body from trials")]
    assert max(step for trial in trials for rank in trial["ranks"] for step in rank["step_s"]) < 3


MANY = """
backends = ["ddp"]
workloads = ["synthetic", "mnist"]
ranks = [1, 2]
repeats = 8
steps = 5
decompose = false
own_cost = false
roofline = false
"""
KILLS = 20
LATEST_KILL_S = 2.5
"""After a start: by then some trials have ended, on a busy machine one has begun."""


def test_a_sweep_killed_at_random_moments_is_resumed_to_its_end(harness):
    (harness.folder / "many.toml").write_text(MANY)
    random = Random(11)

    def stored() -> list[tuple[str, int]]:
        with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
            return store.execute("select key, round from trials").fetchall()

    process = harness.start("sweep", "many.toml")
    until_first_trial(harness, process)
    before = 0
    for _ in range(KILLS):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=random.uniform(0, LATEST_KILL_S))
        process.kill()
        said = process.communicate(timeout=30)[1]
        harness.nothing_left(within_s=10)
        ended = len(re.findall(r"^\d+/\d+ .*: ok", said, re.MULTILINE))
        now = len(stored())
        assert now - before >= ended, "what had ended was in the store before it was said"
        before = now
        process = harness.start("sweep", "--resume")
    process.communicate(timeout=200)
    last = harness.run("sweep", "--resume")
    assert "holds no unfinished sweep" in last.stderr
    found = stored()
    assert len(found) == len(set(found)) == 4 * 8, "every trial once"
    assert {number for _, number in found} == set(range(8))


def test_rounds_go_on_until_the_interval_is_narrow_or_the_budget_is_spent(harness):
    asked = ("--backends", "single", "--workloads", "synthetic", "--steps", "20", "--repeats", "2")
    easy = harness.lean_sweep(*asked, "--precision", "90%")
    assert "imprecise" not in easy["cells"][0]["flags"]
    hard = harness.lean_sweep(*asked, "--precision", "0.001%", "--budget", "5s")
    assert "imprecise" in hard["cells"][0]["flags"]
    assert hard["cells"][0]["trials"] > 2


def test_damaged_data_stops_the_sweep_before_it_starts(harness):
    (harness.folder / "mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (harness.folder / "mnist" / f"{name}-ubyte").write_bytes(b"nonsense")
    done = harness.run("sweep", "--backends", "single", "--workloads", "mnist", "--set", "mnist.data=mnist")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mnist/train-images-idx3-ubyte: not an IDX file" in done.stderr
    assert not (harness.folder / ".runs").exists()


def test_json_goes_to_standard_output_and_progress_elsewhere(harness):
    asked = ("--backends", "single", "--workloads", "synthetic", "--repeats", "2", "--steps", "3")
    done = harness.run("sweep", harness.lean(), *asked, "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "1/2 synthetic" in done.stderr
    plain = harness.run("report")
    assert "report: " in plain.stdout
    assert "\x1b" not in plain.stdout
