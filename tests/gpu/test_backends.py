"""Every backend on a GPU by the real command: its trials are good, and the same work. About 100 s of device time."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from bench.host.installation import read_horovod_build
from tests.e2e.conftest import Harness
from tests.support.dask_cluster import running_cluster

BACKENDS = ("single", "ddp", "horovod", "dask")


@pytest.fixture
def command(tmp_path, device):
    """A harness whose sweeps are on the device."""
    return Harness(tmp_path)


def sweep(command: Harness, device, *arguments: str, status: int = 0) -> list[dict]:
    return command.lean_sweep(
        *("--workloads", "mnist", "--set", "mnist.source=digits", "--device", device.type, "--window", "1", *arguments),
        status=status,
    )["cells"]


def stored(command: Harness) -> list[dict]:
    with closing(sqlite3.connect(command.folder / ".runs" / "results.sqlite")) as store:
        return [json.loads(body) for (body,) in store.execute("select body from trials")]


def check(cells, device, record_figure, kind: str = "") -> None:
    """All cells are good, proven the same, and nothing on the GPU was taken for a stranger."""
    for cell in cells:
        backend = f"{cell['backend']}/{cell['transport']}{kind}"
        assert cell["outcome"] == "ok", (backend, cell["reason"], cell["log_tail"])
        assert cell["same_work"]["verdict"] == "same", (backend, cell["same_work"])
        assert "foreign_gpu_process" not in cell["flags"]
        record_figure(f"samples/s of mnist, {backend}", cell["throughput"]["value"], "samples/s")
        record_figure(f"deviation from one process, {backend}", cell["same_work"]["deviation"], "1", at_most=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_is_good_and_does_the_same_work(command, device, record_figure, backend):
    """Throughput of each backend on one GPU, and its deviation from a single process"""
    if backend == "horovod" and device.type == "cuda" and ((build := read_horovod_build()) is None or not build.nccl):
        pytest.skip("needs a Horovod with NCCL: python -m harness.setup.horovod_wheel")
    cells = sweep(command, device, "--backends", backend, "--ranks", "1")
    check(cells, device, record_figure)
    (trial,) = stored(command)
    listed = [process for node in trial["telemetry"] for process in node["processes"]]
    print(backend, listed)
    assert all(process["ours"] is not False for process in listed), listed


def test_a_dask_cluster_that_exists_is_good(command, device, record_figure, tmp_path_factory):
    """The same in the workers of a Dask cluster that exists"""
    with running_cluster(tmp_path_factory.mktemp("cluster"), {"TMPDIR": str(tmp_path_factory.mktemp("disk"))}) as found:
        site = ("--site", "dask", "--set", f"dask.address={found.address}", "--set", "dask.transport=gloo")
        cells = sweep(command, device, *site, "--backends", "dask", "--ranks", "1", "--ranks-per-node", "1")
    check(cells, device, record_figure, " on a cluster that exists")


def test_two_ranks_share_the_gpu_over_gloo_and_claim_nothing(command, device, record_figure):
    """The same of two ranks that share the GPU over gloo, without an efficiency"""
    settings = [f"--set={name}" for name in ("site.local.ranks_per_gpu=2", "ddp.transport=gloo", "dask.transport=gloo")]
    cells = sweep(command, device, *settings, "--backends", "ddp,dask", "--ranks", "1,2", "--batch", "512")
    check(cells, device, record_figure, ", two ranks on one GPU")
    if device.type == "cuda":
        shared = [cell for cell in cells if cell["ranks"] == 2]
        assert len(shared) == 2
        assert all("shared_gpu" in cell["flags"] and cell["efficiency"] is None for cell in shared)
        gpus = [{rank["gpu"] for rank in trial["ranks"]} for trial in stored(command) if trial["case"]["ranks"] == 2]
        assert all(len(used) == 1 for used in gpus), gpus


@pytest.mark.device_only
@pytest.mark.parametrize("backend", ["ddp", "horovod"])
def test_nccl_is_refused_a_shared_gpu_before_anything_starts(command, backend):
    """Two ranks on one GPU over NCCL are refused before anything starts"""
    done = command.run(
        *("sweep", "--backends", backend, "--workloads", "mnist", "--device", "cuda", "--ranks", "2"),
        *("--set", "site.local.ranks_per_gpu=2"),
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith(f"NCCL takes one rank a GPU, not 2: --set {backend}.transport=gloo")


@pytest.mark.device_only
def test_too_few_gpus_are_named_with_the_remedy(command, device):
    """More ranks than GPUs are skipped with the remedy"""
    import torch

    ranks = 2 * torch.cuda.device_count()
    cells = sweep(command, device, "--backends", "ddp", "--ranks", str(ranks), "--batch", str(64 * ranks), status=4)
    assert [cell["outcome"] for cell in cells] == ["skipped"]
    assert "--set site.local.ranks_per_gpu=2 --set ddp.transport=gloo" in cells[0]["reason"]
