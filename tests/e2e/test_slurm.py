"""Sweeps on a real Slurm of four nodes: every backend, a node that dies, a harness that dies, rounds in one job."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bench.host.installation import find_mpirun
from bench.rank.progress import read_progress
from tests.e2e.conftest import Harness
from tests.e2e.test_hosts import LAYERS, TRAINING
from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks
from tests.support.listening import ListenerWatch
from tests.support.namespaces import Node, cluster
from tests.support.slurm_cluster import PRIVATE, LittleSlurm, serving, unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=f"Slurm can't be run: {unavailable_reason()}")

SUITE = """
workloads = ["synthetic"]
backends = ["ddp"]
warmup = 2
steps = 5
telemetry = "off"
affinity = "none"
decompose = false
own_cost = false
roofline = false
"""


class SlurmHarness(Harness):
    """The real command on the head node of a cluster."""

    def __init__(self, folder: Path, slurm: LittleSlurm) -> None:
        super().__init__(folder)
        self.slurm = slurm
        self.started: list[subprocess.Popen] = []
        (folder / "lean.toml").write_text(SUITE)

    def start(self, *arguments: str) -> subprocess.Popen:
        process = self.slurm.head.start(
            [sys.executable, "-m", "harness", *arguments],
            env={**self.env, **self.slurm.env},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Whatever a test that failed has left."""
        for process in self.started:
            process.kill()
            process.communicate()
        self.slurm.run(["scancel", "--me"])

    def sweeping(self, *arguments: str) -> subprocess.Popen:
        return self.start("sweep", "lean.toml", "--site", "slurm", "--json", "--repeats", "1", *arguments)

    def ended(self, process: subprocess.Popen, status: int = 0) -> list[dict]:
        """Its cells, once it has ended as expected; by then no job is left."""
        out, err = process.communicate(timeout=500)
        assert process.returncode == status, err + self.slurm.said()
        assert self.slurm.jobs() == []
        return json.loads(out)["cells"]

    def until(self, seen: Callable[[], bool], process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 120
        while not seen():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, self.slurm.said()
            time.sleep(0.02)

    def outcomes(self) -> list[str]:
        """Of the trials that have ended so far."""
        with closing(sqlite3.connect(self.folder / ".runs" / "results.sqlite")) as store:
            return [outcome for (outcome,) in store.execute("select outcome from trials")]

    def measuring(self, rank: int) -> bool:
        """Whether a rank of this number is in its measured window."""
        folders = (self.folder / ".runs").glob("*/00-*")
        return any(one.rank == rank and one.phase == "measured step" for each in folders for one in read_progress(each))


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    with cluster(["head", "n1", "n2", "n3", "n4"], private=PRIVATE) as nodes, serving(folder, nodes) as started:
        yield started


@pytest.fixture
def harness(tmp_path, slurm) -> SlurmHarness:
    yield (found := SlurmHarness(tmp_path, slurm))
    found.end()
    found.nothing_left(within_s=10)


def test_a_node_that_dies_is_named_and_the_rest_of_the_sweep_is_there(harness, slurm):
    process = harness.sweeping(
        "--nodes",
        "3",
        "--backends",
        "ddp,horovod,dask",
        "--set",
        "horovod.transport=gloo,mpi",
        "--batch",
        "12",
        "--steps",
        "60",
    )
    harness.until(lambda: harness.measuring(rank=2), process)
    third = slurm.workers[2]
    third.kill_all()
    harness.until(lambda: "failed" in harness.outcomes(), process)
    # The others that need it wait for it.
    slurm.start_worker(third)
    cells = harness.ended(process, status=4)
    assert {(cell["backend"], cell["transport"], cell["ranks"]) for cell in cells} == {
        ("ddp", "gloo", 3),
        ("horovod", "gloo", 3),
        ("horovod", "mpi", 3),
        ("dask", "tasks", 3),
    }
    (struck,) = [cell for cell in cells if cell["outcome"] != "ok"]
    assert struck["outcome"] == "failed"
    assert "node 2 (n3) is gone: Slurm reports the node as" in struck["reason"], struck["reason"]
    assert "rank 2 in measured step" in struck["reason"]
    for cell in cells:
        if cell is not struck:
            assert cell["same_work"]["verdict"] == "same", cell
            assert "/site=slurm/per-node=1/" in cell["key"]


@pytest.mark.skipif(find_mpirun() is None, reason="no mpirun")
def test_a_program_travels_with_the_modules_beside_it(harness):
    (harness.folder / "train.py").write_text(TRAINING)
    (harness.folder / "layers.py").write_text(LAYERS)
    # Its ranks and the agents, which write its files, are started at the same time.
    (cell,) = harness.ended(harness.sweeping("--nodes", "2", "--script", "train.py 16", "--launcher", "mpi"))
    assert (cell["backend"], cell["outcome"]) == ("mpirun", "ok"), cell["reason"]


def test_a_round_in_one_job(harness, slurm, tmp_path_factory):
    before = jobs_so_far(slurm)
    pack = ("--nodes", "1,2", "--set", "slurm.pack=true", "--inject", "exit:rank=1,step=3", "--telemetry", "always")
    with (
        gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as gpu,
        ListenerWatch((slurm.head, *slurm.workers)) as watch,
    ):
        harness.env.update(gpu)
        cells = {cell["ranks"]: cell for cell in harness.ended(harness.sweeping(*pack), status=4)}
    check_stored_owners(harness.folder, gpu)
    assert watch.elsewhere() == set()
    assert jobs_so_far(slurm) == before + 1
    assert cells[1]["outcome"] == "ok"
    assert cells[2]["outcome"] == "failed"
    assert "rank 1 exited with status 3 in measured step 3" in cells[2]["reason"]


def test_an_agent_that_dies_is_named_and_costs_its_trial_alone(harness, slurm):
    pack = ("--nodes", "2", "--set", "slurm.pack=true", "--set", "ddp.bucket_cap_mb=1,2", "--steps", "150")
    process = harness.sweeping(*pack)
    harness.until(lambda: harness.measuring(rank=1), process)
    _, (name, agent) = [(node.name, pid) for node in slurm.workers for pid in agents_on(node)]
    os.kill(agent, signal.SIGKILL)
    struck, other = sorted(harness.ended(process, status=4), key=lambda cell: cell["outcome"])
    assert struck["outcome"] == "failed"
    gone = f"node 1 ({name}) is gone: its agent was killed (srun reports 'Killed')"
    assert gone in struck["reason"], struck["reason"]
    assert "rank 1 in measured step" in struck["reason"]
    assert (other["outcome"], other["same_work"]["verdict"]) == ("ok", "same"), other["reason"]


def agents_on(node: Node) -> list[int]:
    """The process ids of the node agents there, without the srun that has started them."""

    def command(pid: int) -> list[str]:
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return []

    return [pid for pid in node.processes() if command(pid)[1:3] == ["-m", "bench.node.agent"]]


def test_a_harness_that_is_killed_finds_its_job_again_and_one_that_is_interrupted_cancels_it(harness, slurm):
    before = jobs_so_far(slurm)
    process = harness.sweeping("--nodes", "2", "--repeats", "3", "--steps", "20")
    harness.until(lambda: harness.measuring(rank=1), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert slurm.jobs() == [str(before + 1)]
    deadline = time.monotonic() + 60
    while slurm.jobs():
        assert time.monotonic() < deadline, "the job ended with the harness, or never"
        time.sleep(0.05)
    process = harness.start("sweep", "--resume")
    harness.until(lambda: len(slurm.jobs()) == 1, process)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert err.count(": ok") == 1, "the first one, which had ended meanwhile"
    assert slurm.jobs() == []
    assert jobs_so_far(slurm) == before + 2, "none was run again"


def test_a_rank_that_hangs_ends_in_time_with_every_stack(harness):
    cells = harness.ended(
        harness.sweeping("--nodes", "2", "--timeout", "5", "--inject", "stop:rank=1,step=3"), status=4
    )
    assert cells[0]["outcome"] == "timeout"
    assert "rank 1 in measured step 3 (stopped)" in cells[0]["reason"]
    assert any("rank 0:   File" in line for line in cells[0]["log_tail"])


def test_what_slurm_will_not_run_is_given_up_with_its_reason(harness, slurm):
    slurm.run(["scontrol", "update", "nodename=n4", "state=drain", "reason=fan broken"])
    try:
        cells = harness.ended(
            harness.sweeping("--nodes", "4,8", "--set", "slurm.patience_s=0.5", "--backends", "ddp"), status=4
        )
    finally:
        slurm.run(["scontrol", "update", "nodename=n4", "state=resume"])
    reasons = {cell["ranks"]: cell["reason"] for cell in cells}
    # Two of Slurm's schedulers look at a job, and each has words of its own.
    why = r"it can't start: Slurm reports PENDING \((ReqNodeNotAvail, UnavailableNodes:n4|Nodes required for job)"
    assert re.search(why, reasons[4]), reasons[4]
    assert "it can't start: Slurm reports PENDING (PartitionNodeLimit)" in reasons[8]
    (refused,) = harness.ended(harness.sweeping("--nodes", "1", "--set", "slurm.partition=nowhere"), status=4)
    assert "Slurm did not accept the job: " in refused["reason"]
    assert "invalid partition" in refused["reason"]


def jobs_so_far(slurm: LittleSlurm) -> int:
    """The highest number that was given to a job; Slurm counts them through."""
    said = dict(line.split("=", 1) for line in slurm.run(["scontrol", "show", "config"]).splitlines() if "=" in line)
    return int({name.strip(): value for name, value in said.items()}["NEXT_JOB_ID"]) - 1
