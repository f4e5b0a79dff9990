"""A backend dropped in as one file is listed, planned and held to the contract, with no other edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = '''
"""A backend like any other, for a test."""
from contextlib import contextmanager
from bench.backends import Backend, Session
from bench.case import Role

class Pigeon(Backend):
    name = "pigeon"
    summary = "carries gradients by pigeon"
    requires = ()
    transports = {"cpu": ("feather",)}

    def launch(self, case):
        return (Role(name="rank", count=case.ranks),)

    @contextmanager
    def session(self, case, me):
        yield Session(me.rank, me.world)

BACKEND = Pigeon()
'''


@pytest.fixture
def clone(tmp_path) -> Path:
    for folder in ("bench", "harness", "reports", "suites"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    for file in ("conftest.py", "test_contract.py"):
        shutil.copy(ROOT / "tests" / file, tmp_path / "tests" / file)
    return tmp_path


def python(clone: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(clone)}
    return subprocess.run([sys.executable, *arguments], cwd=clone, env=env, capture_output=True, text=True, check=False)


def test_one_file_is_enough(clone):
    (clone / "bench" / "backends" / "pigeon.py").write_text(PLUGIN)
    listed = json.loads(python(clone, "-m", "harness", "list", "--json").stdout)
    assert "pigeon" in [backend["name"] for backend in listed["backends"]]

    dry = python(clone, "-m", "harness", "sweep", "--dry-run", "--json", "--backends", "pigeon", "--ranks", "1,2")
    planned = json.loads(dry.stdout)
    assert {(case["workload"], case["transport"]) for case in planned["cases"]} >= {("mnist", "feather")}

    tested = python(clone, "-m", "pytest", "-q", "tests/test_contract.py", "-k", "pigeon", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout


def test_a_broken_plugin_is_named_and_the_others_stay(clone):
    (clone / "bench" / "backends" / "pigeon.py").write_text("import nothing_of_that_name\n")
    listed = json.loads(python(clone, "-m", "harness", "list", "--json").stdout)
    assert {"single", "ddp", "horovod", "dask"} <= {backend["name"] for backend in listed["backends"]}
    assert listed["broken"][0]["name"] == "pigeon"
    assert "nothing_of_that_name" in listed["broken"][0]["error"]
    assert python(clone, "-m", "harness", "sweep", "--dry-run", "--backends", "ddp").returncode == 0
