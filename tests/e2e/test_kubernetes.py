"""Trials in a cluster, through the official client and a stand-in for its API server that runs the pods' commands."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from tests.e2e.conftest import LEAN, MARK
from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks
from tests.support.kubernetes_server import stand_in

SWEEP = (
    "sweep",
    "lean.toml",
    "--site",
    "kubernetes",
    "--nodes",
    "2",
    "--workloads",
    "synthetic",
    "--repeats",
    "1",
    "--telemetry",
    "off",
    "--set",
    "kubernetes.interface=lo",
    "--json",
)


@pytest.fixture
def cluster(harness, tmp_path_factory):
    """A cluster that the harness finds by its kubeconfig alone. Its pods' ranks are on a GPU, if they are sampled."""
    (harness.folder / "lean.toml").write_text(LEAN)
    outside = harness.folder.with_name(f"{harness.folder.name}-cluster")
    outside.mkdir()
    with (
        gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as gpu,
        stand_in(outside / "pods", **{MARK: harness.mark}, **gpu) as found,
    ):
        found.gpu = gpu
        harness.env["KUBECONFIG"] = str(found.kubeconfig(outside / "kubeconfig"))
        yield found
        assert found.left() == []
        harness.nothing_left()
        keeps_its_token(harness, found)


def keeps_its_token(harness, cluster):
    """What lies in the sweep's folder, in its store, its page and its logs; and what the pods were given."""
    files = [path for path in harness.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".sqlite" for path in files)
    for path in files:
        assert cluster.token.encode() not in path.read_bytes(), path
    assert cluster.token not in json.dumps(cluster.state.changes)


def until(found: Callable[[], object], process, within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.05)


def test_the_pods_of_a_dask_cluster_have_a_certificate_that_goes_with_them(harness, cluster):
    done = harness.run(*SWEEP, "--backends", "dask", "--window", "0.2")
    (cell,) = json.loads(done.stdout)["cells"]
    assert (cell["outcome"], cell["settings"]["connections"]) == ("ok", "tls, streams")
    secrets = [(change, manifest) for _, change, kind, manifest in cluster.state.changes if kind == "secrets"]
    assert [change for change, _ in secrets] == ["ADDED", "DELETED"]
    key = secrets[0][1]["stringData"]["certificate.pem"].splitlines()[1]
    files = [path for path in harness.folder.rglob("*") if path.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in files)
    assert key not in str([manifest for _, _, kind, manifest in cluster.state.changes if kind == "configmaps"])


def test_ranks_train_in_pods_and_a_harness_that_was_killed_finds_them_again(harness, cluster):
    arguments = (*SWEEP, "--backends", "ddp,horovod", "--window", "0.2", "--telemetry", "always")
    process = harness.start(*arguments)
    until(lambda: list(harness.folder.glob(".runs/*/*/claim.json")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    until_ended = time.monotonic() + 120
    while any(one["status"]["phase"] != "Succeeded" for one in cluster.state.of("pods")):
        assert time.monotonic() < until_ended, cluster.state.of("pods")
        time.sleep(0.05)
    done = harness.run(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [cell["backend"] for cell in document["cells"]] == ["ddp", "horovod"]
    for cell in document["cells"]:
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same"), cell["reason"]
        assert cell["key"].endswith("/site=kubernetes/per-node=1/ranks=2")
    assert len(cluster.made) == 2, "both trials ran in the pods of one job, which was not started again"
    check_stored_owners(harness.folder, cluster.gpu)


def ranks_in_the_middle(cluster) -> bool:
    """Whether both pods' ranks have found each other: rank 1 has built its workload."""
    marks = [list(kubelet.folder.glob("results/*/progress-*")) for kubelet in cluster.kubelets.values()]
    return all(marks) and all(path.read_bytes()[8] > 1 for found in marks for path in found)


def test_a_pod_that_is_killed_is_named_and_the_rest_is_there(harness, cluster):
    process = harness.start(*SWEEP, "--backends", "ddp", "--window", "60")
    until(lambda: len(cluster.kubelets) == 2 and ranks_in_the_middle(cluster), process)
    cluster.pod(1).kill("OOMKilled")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    (cell,) = json.loads(out)["cells"]
    host = cluster.pod(1).pod["spec"]["nodeName"]
    assert cell["outcome"] == "failed"
    assert f"node 1 ({host}) is gone: OOMKilled: it used more memory than its limit" in cell["reason"]
    page = next(harness.folder.glob(".runs/*/report.html")).read_text()
    assert "OOMKilled" in page
    assert list(harness.folder.glob(".runs/*/*/failure-rank-0.json")), "what rank 0 said of it came back"


def test_an_interrupted_sweep_deletes_its_pods(harness, cluster):
    process = harness.start(*SWEEP, "--backends", "ddp", "--window", "60")
    until(lambda: [one for one in cluster.kubelets.values() if one.process is not None][1:], process)
    pids = [kubelet.process.pid for kubelet in cluster.kubelets.values()]
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert cluster.left() == []
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not list(harness.folder.glob(".runs/*/*/claim.json"))
