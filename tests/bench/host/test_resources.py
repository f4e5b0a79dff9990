"""Which cores a rank gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.host.quota import CpuQuota, read_cpu_quota
from bench.host.resources import (
    cores_of_rank,
    cores_within_quota,
    lacking_gpu_problem,
    shared_memory_problem,
    usable_core_count,
    usable_cores,
    use_device,
)
from tests.support.builders import make_case


@pytest.mark.parametrize(
    ("rank", "threads", "usable", "cores"),
    [
        (0, 1, (0, 1), (0,)),
        (1, 1, (0, 1), (1,)),
        (2, 1, (0, 1), (0,)),
        (1, 2, (4, 5, 6, 7), (6, 7)),
        (1, 3, (0, 1, 2, 3), (0, 1, 3)),
        (0, 8, (0, 1), (0, 1)),
    ],
)
def test_each_rank_gets_as_many_cores_as_it_has_threads(rank, threads, usable, cores):
    assert cores_of_rank(rank, threads, usable) == cores


def test_usable_cores_are_those_of_the_affinity_mask():
    assert set(usable_cores()) == os.sched_getaffinity(0)
    assert usable_core_count() == cores_within_quota(len(usable_cores()), read_cpu_quota())


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (2.0, 2), (1.5, 1), (0.5, 1), (64.0, 8)])
def test_a_cpu_quota_counts_as_whole_cores(quota, cores):
    assert cores_within_quota(8, quota and CpuQuota(quota, Path("/sys/fs/cgroup"))) == cores


LATER_PINNED = """
import os
from bench.host.resources import thread_cores, usable_cores
before = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(before)})
assert set(usable_cores()) == before
assert thread_cores() == (min(before),)
"""


@pytest.mark.slow
def test_usable_cores_are_those_from_before_a_library_pinned_the_process():
    subprocess.run([sys.executable, "-c", LATER_PINNED], check=True)


def test_shared_memory_has_to_hold_a_segment_of_open_mpi(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    too_large = {"OMPI_MCA_btl_sm_segment_size": str(free * 2)}
    assert shared_memory_problem({}, tmp_path) is None
    assert f"{tmp_path} has {free / 2**20:.0f} MiB free" in (shared_memory_problem(too_large, tmp_path) or "")
    elsewhere = {**too_large, "OMPI_MCA_btl_sm_backing_directory": str(tmp_path)}
    assert str(tmp_path) in (shared_memory_problem(elsewhere) or "")
    for ways in ("tcp,self", "^sm,openib"):
        assert shared_memory_problem({**too_large, "OMPI_MCA_btl": ways}, tmp_path) is None


@pytest.mark.parametrize(
    ("local_rank", "ranks_per_gpu", "found", "problem"),
    [
        (0, 1, 1, None),
        (1, 1, 2, None),
        (1, 2, 1, None),
        (3, 2, 2, None),
        (0, 1, 0, "PyTorch finds no GPU on this node: --device cpu"),
        (1, 1, 1, "4 ranks on this node, and PyTorch finds 1 GPU: use fewer ranks a node, or let 4 share a GPU"),
        (4, 2, 2, "4 ranks on this node, and PyTorch finds 2 GPUs: use fewer ranks a node, or let 2 share a GPU"),
    ],
)
def test_a_rank_without_a_gpu_says_why(local_rank, ranks_per_gpu, found, problem):
    case = make_case(ranks=4, device="cuda", transport="gloo", ranks_per_gpu=ranks_per_gpu)
    reason = lacking_gpu_problem(case, local_rank, found)
    assert (reason or "").find(problem or "") >= 0
    assert (reason is None) == (problem is None)
    assert lacking_gpu_problem(case.model_copy(update={"device": "cpu"}), local_rank, found) is None


@pytest.mark.frameworks
def test_a_rank_uses_its_device_or_names_what_is_missing():
    torch = pytest.importorskip("torch")
    assert use_device(make_case(device="cpu"), 3) == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="PyTorch finds no GPU on this node"):
            use_device(make_case(device="cuda", transport="nccl"), 0)
