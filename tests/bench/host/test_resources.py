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
    shared_memory_problem,
    usable_core_count,
    usable_cores,
)


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
