"""A Dask cluster as jobs of a real Slurm: started for a sweep, gone with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from bench.dask_cluster.cluster import PRINT_JOB_SCRIPT
from bench.host.links import NODE_INTERFACE
from tests.e2e.conftest import LEAN, ROOT
from tests.support import slurm_cluster
from tests.support.listening import ListenerWatch
from tests.support.namespaces import cluster
from tests.support.slurm_cluster import PRIVATE, serving

pytestmark = pytest.mark.skipif(
    slurm_cluster.unavailable_reason() is not None, reason=str(slurm_cluster.unavailable_reason())
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    pytest.importorskip("dask_jobqueue")
    with (
        cluster(["head", "n1", "n2"], private=PRIVATE) as nodes,
        serving(tmp_path_factory.mktemp("slurm"), nodes) as running,
    ):
        yield running


def harness(slurm, folder, *arguments: str, status: int = 0) -> str:
    (folder / "lean.toml").write_text(LEAN)
    command = [
        sys.executable,
        "-m",
        "harness",
        "sweep",
        "lean.toml",
        "--site",
        "dask",
        "--backends",
        "dask",
        "--set",
        "dask.jobqueue=slurm",
        "--set",
        "dask.queue=short",
        "--set",
        f"dask.interface={NODE_INTERFACE}",
        "--set",
        "dask.walltime=00:10:00",
        "--workloads",
        "synthetic",
        "--nodes",
        "2",
        "--telemetry",
        "off",
        *arguments,
    ]
    env = {**slurm.env, "PYTHONPATH": str(ROOT)}
    done = slurm.head.run(command, env=env, cwd=folder, timeout=240)
    assert done.returncode == status, done.stderr + slurm.said()
    return done.stdout


def test_a_sweep_has_a_cluster_of_its_own_and_leaves_no_job(slurm, tmp_path):
    options = ("--json", "--repeats", "1", "--window", "0.2", "--set", "dask.transport=tasks,gloo")
    with ListenerWatch((slurm.head, *slurm.workers)) as watch:
        said = harness(slurm, tmp_path, *options)
    assert watch.elsewhere() == set()
    cells = json.loads(said)["cells"]
    outcomes = {cell["title"]: (cell["outcome"], cell["reason"]) for cell in cells}
    assert len(outcomes) == 2
    assert all(outcome == "ok" for outcome, _ in outcomes.values()), outcomes
    assert {cell["same_work"]["verdict"] for cell in cells} == {"same"}
    # The certificate was made for this cluster, and is gone with it.
    assert {cell["settings"].get("connections") for cell in cells if cell["transport"] == "tasks"} == {"tls, streams"}
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".pem" or path.name.startswith(".certificate")] == []
    deadline = time.monotonic() + 10
    while slurm.jobs() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert slurm.jobs() == []


def test_the_specification_of_the_jobs_is_shown_and_nothing_is_submitted(slurm, tmp_path):
    said = harness(slurm, tmp_path, "--dry-run", "--set", "dask.account=physics", "--set", "dask.transport=tasks")
    (specification,) = [line for line in said.splitlines() if line.startswith('{"count"')]
    done = subprocess.run(
        [sys.executable, *PRINT_JOB_SCRIPT.split()[1:]],
        input=specification + "\n",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for line in (
        "#SBATCH -p short",
        "#SBATCH -A physics",
        "#SBATCH --mem=0",
        "#SBATCH -t 00:10:00",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --exclusive",
    ):
        assert line in done.stdout.splitlines()
    assert "--nthreads 2 --memory-limit 1.00GiB" in done.stdout
    assert f"--interface {NODE_INTERFACE}" in done.stdout
    assert slurm.jobs() == []


def test_what_slurm_refuses_is_the_reason(slurm, tmp_path):
    said = harness(
        slurm,
        tmp_path,
        "--json",
        "--repeats",
        "1",
        "--set",
        "dask.transport=tasks",
        "--set",
        "dask.directives=--reservation=none",
        status=4,
    )
    (cell,) = json.loads(said)["cells"]
    assert cell["outcome"] == "failed"
    assert "no Dask cluster could be started: sbatch: error: " in cell["reason"]
