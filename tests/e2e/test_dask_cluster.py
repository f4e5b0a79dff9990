"""Sweeps on a Dask cluster that exists: it is there afterwards, and holds nothing of the harness."""

from __future__ import annotations

import json
import platform
import signal
import time
from pathlib import Path

import psutil
import pytest

from bench.dask_cluster.cluster import ClusterInfo
from bench.rank.progress import read_progress
from harness.sites.dask.site import DaskSite, DaskSiteOptions
from tests.e2e.conftest import LEAN, Harness
from tests.support.builders import make_case
from tests.support.dask_cluster import RunningCluster, make_worker_info, running_cluster
from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # What ranks leave on a host's disk for the length of a trial lies in a folder of this test.
    disk = tmp_path_factory.mktemp("disk")
    with (
        gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as gpu,
        running_cluster(tmp_path_factory.mktemp("cluster"), {"TMPDIR": str(disk), **gpu}) as running,
    ):
        yield running


def site(cluster: RunningCluster) -> list[str]:
    return [
        "--site",
        "dask",
        "--set",
        f"dask.address={cluster.address}",
        "--ranks",
        "2",
        "--ranks-per-node",
        "2",
        "--telemetry",
        "off",
    ]


def on_disk(cluster: RunningCluster) -> list[Path]:
    return list(Path(cluster.env["TMPDIR"]).glob("scaling-*"))


def wait_for_a_measured_step(cluster: RunningCluster) -> list[int]:
    """Pids of the two ranks."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for folder in on_disk(cluster):
            seen = read_progress(folder)
            if len(seen) == 2 and all(rank.phase == "measured step" and rank.step > 1 for rank in seen):
                return [rank.pid for rank in seen]
        time.sleep(0.05)
    raise AssertionError(f"no rank came to a measured step: {cluster.log_tail()}")


def test_an_array_by_both_transports_on_a_cluster_that_stays_as_it_was(harness, cluster):
    before = cluster.workers()
    # As the workers of dask-cuda, each with a context on its GPU.
    on_gpu = [process.pid for name, process in cluster.processes.items() if name != "scheduler"]
    listed = next(word for word in cluster.env["SUBSTITUTE_NVML"].split(",") if word.startswith("listed="))
    Path(listed.partition("=")[2]).write_text("\n".join(map(str, on_gpu)))
    document = harness.lean_sweep(
        *site(cluster),
        "--backends",
        "dask,ddp",
        "--workloads",
        "array_mean",
        "--set",
        "dask.transport=tasks,gloo",
        "--set",
        "array_mean.rows=2000",
        "--set",
        "array_mean.columns=2000",
        "--telemetry",
        "always",
    )
    cells = [cell for cell in document["cells"] if cell["backend"] == "dask"]
    assert len(cells) == 2
    outcomes = {cell["title"]: (cell["outcome"], cell["reason"]) for cell in cells}
    assert all(outcome == "ok" for outcome, _ in outcomes.values()), outcomes
    assert {cell["same_work"]["verdict"] for cell in cells} == {"same"}
    for cell in cells:
        kept_by = cell["settings"].get("workers")
        assert kept_by == ("kept by the cluster" if cell["transport"] == "tasks" else None)
    others = [cell for cell in document["cells"] if cell["backend"] == "ddp"]
    assert {cell["reason"] for cell in others if cell["outcome"] == "skipped"} == {
        "a Dask cluster runs the dask backend only: --backends dask, or another --site"
    }
    check_stored_owners(harness.folder, cluster.env, holders=on_gpu)
    assert cluster.workers() == before
    cluster.nothing_left()
    assert on_disk(cluster) == []
    harness.nothing_left()


def test_more_than_the_cluster_has_is_a_skip_that_says_what_there_is(harness, cluster):
    done = harness.run(
        "sweep",
        "--dry-run",
        "--site",
        "dask",
        "--set",
        f"dask.address={cluster.address}",
        "--backends",
        "dask",
        "--workloads",
        "synthetic",
        "--nodes",
        "2",
    )
    host = platform.node()
    assert f"2 ranks by tasks take 2 hosts with 1 worker of 2 threads; the cluster has workers on {host}" in done.stdout


def test_ranks_end_when_the_harness_is_killed(harness, cluster):
    (harness.folder / "lean.toml").write_text(LEAN)
    sweep = harness.start(
        "sweep",
        "lean.toml",
        "--window",
        "60",
        *site(cluster),
        "--backends",
        "dask",
        "--workloads",
        "synthetic",
        "--set",
        "dask.transport=gloo",
    )
    ranks = wait_for_a_measured_step(cluster)
    sweep.send_signal(signal.SIGKILL)
    sweep.communicate()
    cluster.nothing_left()
    assert not any(psutil.pid_exists(pid) for pid in ranks)
    assert on_disk(cluster) == []


def killed_in_the_middle(harness: Harness, cluster: RunningCluster, transport: str) -> str:
    """The reason of a trial whose first worker was killed; there is another one afterwards."""
    (harness.folder / "lean.toml").write_text(LEAN)
    sweep = harness.start(
        "sweep",
        "lean.toml",
        "--json",
        "--repeats",
        "1",
        "--window",
        "60",
        *site(cluster),
        "--backends",
        "dask",
        "--workloads",
        "synthetic",
        "--set",
        f"dask.transport={transport}",
    )
    wait_for_a_measured_step(cluster)
    holder = first_worker(cluster)
    cluster.processes[holder].kill()
    out, err = sweep.communicate(timeout=60)
    cluster.processes[holder].wait()
    cluster.start_worker(holder)
    cluster.ready()
    cell = json.loads(out)["cells"][0]
    assert cell["outcome"] == "failed", err
    return cell["reason"]


def first_worker(cluster: RunningCluster) -> str:
    """The name of the worker that holds rank 0, or the node: the first by its address."""
    port = int(min(cluster.workers()).rpartition(":")[2])
    return next(
        name
        for name, process in cluster.processes.items()
        if any(
            one.laddr.port == port and one.status == "LISTEN" for one in psutil.Process(process.pid).net_connections()
        )
    )


def test_a_worker_that_holds_a_rank_is_killed_and_named(harness, cluster):
    reason = killed_in_the_middle(harness, cluster, "tasks")
    assert f"node 0 ({platform.node()}): worker tcp://127.0.0.1:" in reason
    assert "has left the cluster; it held rank 0 in measured step" in reason
    cluster.nothing_left()
    assert on_disk(cluster) == []


def test_a_worker_that_holds_a_node_is_killed_and_its_ranks_are_named(harness, cluster):
    reason = killed_in_the_middle(harness, cluster, "gloo")
    assert "has left the cluster; it held rank 0 in measured step" in reason
    assert "rank 1 in measured step" in reason
    cluster.nothing_left()
    assert on_disk(cluster) == []


def test_what_a_cluster_can_run_is_decided_by_the_survey():
    def surveyed(*workers, problem=None):
        site = DaskSite(DaskSiteOptions(address="tcp://127.0.0.1:8786"))
        site.cluster_info = ClusterInfo(worker_infos=workers, problem=problem)
        return site

    def make(**changes):
        fields = {"backend": "dask", "transport": "tasks", "site": "dask", "ranks_per_node": 1}
        return make_case(**{**fields, **changes})

    site = surveyed(make_worker_info("n1", 1), make_worker_info("n2", 1))
    assert site.unavailable_reason(make(ranks=2)) is None
    assert "the cluster has workers on n1 (2 threads), n2 (2 threads)" in site.unavailable_reason(make(ranks=3))
    assert surveyed(problem="no Dask scheduler answers").unavailable_reason(make()) == "no Dask scheduler answers"
