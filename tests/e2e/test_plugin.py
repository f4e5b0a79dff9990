"""A backend dropped in as one file is listed, planned and held to the contract, with no other edit."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.e2e.conftest import ROOT

PIGEON = "bench/backends/pigeon.py"
PLUGIN = '''
"""A backend like any other, for a test."""
from contextlib import contextmanager
from bench.plugins.backend import Backend, Session
from bench.core.case import Role

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


def test_one_file_is_enough(planted):
    harness = planted({PIGEON: PLUGIN})
    listed = json.loads(harness.run("list", "--json").stdout)
    assert "pigeon" in [backend["name"] for backend in listed["backends"]]

    dry = harness.run("sweep", "--dry-run", "--json", "--backends", "pigeon", "--ranks", "1,2")
    planned = json.loads(dry.stdout)
    assert {(case["workload"], case["transport"]) for case in planned["cases"]} >= {("mnist", "feather")}

    contract = [
        "-q",
        str(ROOT / "tests" / "bench" / "plugins" / "test_contract.py"),
        "-k",
        "pigeon",
        "-p",
        "no:cacheprovider",
    ]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", *contract],
        cwd=harness.folder,
        env=harness.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout


def test_a_broken_plugin_is_named_and_the_others_stay(planted):
    harness = planted({PIGEON: "import nothing_of_that_name\n"})
    listed = json.loads(harness.run("list", "--json").stdout)
    assert {"single", "ddp", "horovod", "dask"} <= {backend["name"] for backend in listed["backends"]}
    assert listed["broken"][0]["name"] == "pigeon"
    assert "nothing_of_that_name" in listed["broken"][0]["error"]
    assert harness.run("sweep", "--dry-run", "--backends", "ddp").returncode == 0
