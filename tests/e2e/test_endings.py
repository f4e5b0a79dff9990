"""However a trial or a sweep ends, it says why, the rest is there, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from random import Random

import pytest

MISBEHAVING = '''
"""A workload whose rank 1 misbehaves in its third step."""
import os, signal, time
from pydantic import Field
from bench.backends import Options
from bench.workloads import Work, Workload

class BadOptions(Options):
    how: str = Field("raise", description="what happens")

class Bad(Work):
    amount_per_step = 1
    warmup_steps = 0

    def __init__(self, how, session):
        self.how, self.session, self.taken = how, session, 0

    def step(self):
        self.taken += 1
        self.session.barrier()
        if self.session.rank == 1 and self.taken == 3:
            if self.how == "raise":
                raise ValueError("the loss went for a walk")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "hang":
                time.sleep(3600)
            if self.how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)

    def verify(self, steps):
        return (), ()

    def snapshot(self):
        return []

class Misbehaving(Workload):
    name = "misbehaving"
    summary = "ends badly"
    kind = "collective"
    options = BadOptions
    uses_batch = False
    tolerance = 1.0

    def build(self, case, session):
        return Bad(BadOptions(**case.workload_options).how, session)

WORKLOAD = Misbehaving()
'''


@pytest.fixture
def misbehaving(planted):
    return planted({"bench/workloads/misbehaving.py": MISBEHAVING})


@pytest.mark.parametrize("backend", ["ddp", "horovod", "dask"])
def test_a_rank_that_raises_is_named_and_the_sweep_goes_on(misbehaving, backend):
    document = misbehaving.sweep(
        "--backends", backend, "--workloads", "misbehaving,synthetic", "--ranks", "2", "--steps", "5",
        "--timeout", "60", status=4,
    )  # fmt: skip
    cells = {cell["workload"]: cell for cell in document["cells"]}
    assert cells["misbehaving"]["outcome"] == "failed"
    assert "rank 1: ValueError: the loss went for a walk" in cells["misbehaving"]["reason"]
    assert cells["synthetic"]["outcome"] == "ok"
    misbehaving.nothing_left()


@pytest.mark.parametrize(("how", "backend"), [("hang", "ddp"), ("stop", "ddp"), ("hang", "horovod"), ("hang", "dask")])
def test_a_rank_that_hangs_ends_in_time_with_stacks(misbehaving, how, backend):
    began = time.monotonic()
    document = misbehaving.sweep(
        "--backends", backend, "--workloads", "misbehaving,synthetic", "--ranks", "2", "--steps", "5", "--timeout", "8",
        "--set", f"misbehaving.how={how}", status=4,
    )  # fmt: skip
    assert time.monotonic() - began < 45
    cells = {cell["workload"]: cell for cell in document["cells"]}
    assert cells["misbehaving"]["outcome"] == "timeout"
    assert "not done within 8 s" in cells["misbehaving"]["reason"]
    assert cells["synthetic"]["outcome"] == "ok"
    store = sqlite3.connect(misbehaving.folder / ".runs" / "results.sqlite")
    bodies = [json.loads(body) for (body,) in store.execute("select body from trials where outcome = 'timeout'")]
    tail = "\n".join(bodies[0]["log_tail"])
    assert "in step" in tail, "faulthandler's stacks show where a rank was"
    misbehaving.nothing_left()


@pytest.mark.parametrize("how", ["hang", "raise"])
def test_ranks_under_mpirun_end_like_the_others(misbehaving, how):
    document = misbehaving.sweep(
        "--backends", "horovod", "--workloads", "misbehaving", "--ranks", "2", "--steps", "5", "--timeout", "15",
        "--set", f"misbehaving.how={how}", "--set", "horovod.transport=mpi", status=4,
    )  # fmt: skip
    (cell,) = document["cells"]
    assert cell["outcome"] == ("timeout" if how == "hang" else "failed")
    assert how == "hang" or "rank 1: ValueError: the loss went for a walk" in cell["reason"]
    assert how == "hang" or "went for a walk" in cell["failures"][0]["tail"][-1]
    misbehaving.nothing_left()


@pytest.mark.parametrize("backend", ["ddp", "horovod"])
def test_a_rank_that_is_killed_ends_the_trial_at_once(misbehaving, backend):
    began = time.monotonic()
    document = misbehaving.sweep(
        "--backends", backend, "--workloads", "misbehaving", "--ranks", "2", "--steps", "5", "--timeout", "100",
        "--set", "misbehaving.how=kill", status=4,
    )  # fmt: skip
    assert time.monotonic() - began < 60
    (cell,) = document["cells"]
    assert cell["outcome"] == "failed"
    assert cell["reason"] == "1 of 1 trials: rank 1 was killed by SIGKILL"
    misbehaving.nothing_left()


def until_first_trial(harness, process) -> None:
    """Wait until one trial is in the store and the next one runs."""
    store = harness.folder / ".runs" / "results.sqlite"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            with sqlite3.connect(store) as found:
                if found.execute("select count(*) from trials").fetchone()[0] >= 1:
                    time.sleep(0.5)
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.1)
    raise AssertionError("no trial within 90 s")


LONG = ("sweep", "--backends", "ddp", "--workloads", "synthetic", "--ranks", "2", "--repeats", "50")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_is_tidy(harness, sign):
    process = harness.start(*LONG)
    until_first_trial(harness, process)
    process.send_signal(sign)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "report: " in out
    harness.nothing_left()
    document = json.loads(harness.run("report", "--json").stdout)
    assert document["cells"][0]["trials"] >= 1


@pytest.mark.parametrize("transport", ["ddp.transport=gloo", "horovod.transport=mpi", "dask.transport=tasks"])
def test_a_harness_that_is_killed_leaves_its_trials_and_no_process(harness, transport):
    process = harness.start(*LONG, "--backends", transport.split(".")[0], "--set", transport)
    until_first_trial(harness, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    harness.nothing_left(within_s=10)
    document = json.loads(harness.run("report", "--json").stdout)
    assert document["cells"][0]["trials"] >= 1
    assert document["cells"][0]["outcome"] == "ok"


SHORT = (
    "sweep",
    "--backends",
    "ddp",
    "--workloads",
    "synthetic,mnist",
    "--ranks",
    "1,2",
    "--repeats",
    "3",
    "--steps",
    "5",
)


def test_a_sweep_killed_at_random_moments_is_resumed_to_its_end(harness):
    random = Random(11)
    process = harness.start(*SHORT)
    until_first_trial(harness, process)
    for _ in range(4):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=random.uniform(0, 7))
        process.kill()
        process.communicate(timeout=30)
        harness.nothing_left(within_s=10)
        process = harness.start("sweep", "--resume")
        if process.poll() is not None:
            break
    process.communicate(timeout=120)
    last = harness.run("sweep", "--resume")
    while last.returncode == 0:
        last = harness.run("sweep", "--resume")
    assert "holds no unfinished sweep" in last.stderr
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        found = store.execute("select sweep, key, round from trials").fetchall()
    assert len(found) == len(set(found)) == 4 * 3, "every trial once"
    assert {number for _, _, number in found} == {0, 1, 2}


def test_resume_refuses_another_sweep(harness):
    process = harness.start(*LONG)
    until_first_trial(harness, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    done = harness.run("sweep", "--resume", "--backends", "horovod")
    assert done.returncode == 2
    assert "was asked for by `python -m harness sweep --backends ddp" in done.stderr


def test_rounds_go_on_until_the_interval_is_narrow_or_the_budget_is_spent(harness):
    arguments = ("--backends", "single", "--workloads", "synthetic", "--steps", "20")
    easy = json.loads(harness.run("sweep", *arguments, "--repeats", "2", "--precision", "90%", "--json").stdout)
    assert "imprecise" not in easy["cells"][0]["flags"]
    hard = json.loads(
        harness.run("sweep", *arguments, "--repeats", "2", "--precision", "0.001%", "--budget", "8s", "--json").stdout
    )
    assert "imprecise" in hard["cells"][0]["flags"]
    assert hard["cells"][0]["trials"] > 2


def test_damaged_data_stops_the_sweep_before_it_starts(harness):
    (harness.folder / "mnist").mkdir()
    (harness.folder / "mnist" / "train-images-idx3-ubyte").write_bytes(b"nonsense")
    done = harness.run("sweep", "--backends", "single", "--workloads", "mnist", "--set", "mnist.data=mnist")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mnist/train-images-idx3-ubyte: not an IDX file" in done.stderr
    assert not (harness.folder / ".runs").exists()


def test_json_goes_to_standard_output_and_progress_elsewhere(harness):
    done = harness.run(
        "sweep", "--backends", "single", "--workloads", "synthetic", "--repeats", "2", "--steps", "3", "--json"
    )
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "1/2 synthetic" in done.stderr
    plain = harness.run("report")
    assert "report: " in plain.stdout
    assert "\x1b" not in plain.stdout
