"""A sweep of the installed console script from a folder that holds packages of the same names."""

from __future__ import annotations

import os

import pytest

from tests.e2e.conftest import MARK, Harness
from tests.support.installed import environment_variables, install, plant_own_packages


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


def test_every_rank_imports_the_installed_package(programs, tmp_path):
    plant_own_packages(tmp_path)
    harness = Harness(tmp_path)
    harness.command = (str(programs / "scaling-harness"),)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    harness.env = environment_variables(**{MARK: harness.mark, "PATH": path})
    document = harness.lean_sweep(
        "--backends",
        "single,ddp,horovod,dask",
        "--workloads",
        "synthetic",
        "--ranks",
        "1,2",
        "--set",
        "backend.horovod.transport=gloo,mpi",
    )
    assert {cell["title"]: cell["reason"] for cell in document["cells"] if cell["outcome"] != "ok"} == {}
    assert {cell["backend"] for cell in document["cells"]} >= {"single", "ddp", "dask"}
    assert {cell["same_work"]["verdict"] for cell in document["cells"]} == {"same"}
    harness.nothing_left()
