"""A plugin is one file, in its folder or in the user's own: listed, planned, run and checked, with no other edit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from bench.core.records import RankRecord
from bench.host.network import free_port
from bench.plugins.registry import BACKENDS, WORKLOADS, add_plugin_file, backend_names, load_backend, sources_of
from harness.setup.plugin_checks import backend_cases, check_on_ranks
from reports.analysis.same_work import judge_same_work
from tests.e2e.conftest import ROOT
from tests.support.builders import make_case

SAMPLES = ROOT / "tests" / "support" / "plugins"

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
    assert "1 passed" in tested.stdout


def test_a_broken_plugin_is_named_and_the_others_stay(planted):
    harness = planted({PIGEON: "import nothing_of_that_name\n"})
    listed = json.loads(harness.run("list", "--json").stdout)
    assert {"single", "ddp", "horovod", "dask"} <= {backend["name"] for backend in listed["backends"]}
    assert listed["broken"][0]["name"] == "pigeon"
    assert "nothing_of_that_name" in listed["broken"][0]["error"]
    assert harness.run("sweep", "--dry-run", "--backends", "ddp").returncode == 0


SUITE = """
plugins = ["my_fsdp.py", "mine/my_mlp.py"]
backends = ["single", "ddp", "my_fsdp"]
workloads = ["my_mlp"]
ranks = [1, 2]
own_cost = false
[workload.my_mlp]
hidden = 32
"""


@pytest.fixture
def users_folder(harness):
    """A folder outside the repository with a suite, a backend and a workload of the user's own, and a ``bench/``."""
    mine = harness.folder / "mine"
    mine.mkdir()
    (harness.folder / "bench").mkdir()
    shutil.copy(SAMPLES / "my_fsdp.py", harness.folder)
    shutil.copy(SAMPLES / "my_mlp.py", mine)
    (harness.folder / "suite.toml").write_text(SUITE)
    return harness


def test_a_sharding_backend_and_a_workload_of_the_user_s_own_do_the_same_work(users_folder, new_interpreter):
    document = users_folder.sweep("suite.toml")
    cells = {(cell["backend"], cell["ranks"]): cell for cell in document["cells"] if cell["outcome"] == "ok"}
    assert set(cells) == {("single", 1), ("ddp", 1), ("ddp", 2), ("my_fsdp", 1), ("my_fsdp", 2)}
    for cell in cells.values():
        assert cell["same_work"]["verdict"] == "same"
    assert cells["my_fsdp", 2]["same_work"]["deviation"] <= 1e-3
    assert cells["my_fsdp", 2]["same_work"]["quantity"]
    assert cells["my_fsdp", 2]["decomposition"] is None
    assert cells["my_fsdp", 2]["decomposition_reason"] == "its parameters are gathered in every pass"
    assert cells["ddp", 2]["decomposition"] is not None
    # The page of a stored sweep is written without the files.
    shutil.rmtree(users_folder.folder / "mine")
    done = users_folder.run("report", document["sweep"], "--out", "again.html")
    assert done.returncode == 0, done.stderr


def test_doctor_checks_a_user_s_plugin_on_real_ranks(users_folder):
    done = users_folder.run("doctor", "--plugin", "my_fsdp.py", "--plugin", "mine/my_mlp.py", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {finding["status"] for finding in findings.values()} == {"ok"}
    on_ranks = [name for name in findings if "same work" in name]
    assert on_ranks == [
        "backend my_fsdp: same work, synthetic over my_fsdp/gloo on 1 rank",
        "backend my_fsdp: same work, synthetic over my_fsdp/gloo on 2 ranks",
        "workload my_mlp: same work, my_mlp over single/none on 1 rank",
        "workload my_mlp: same work, my_mlp over ddp/gloo on 2 ranks",
    ]


def test_doctor_names_what_a_plugin_does_wrong(users_folder):
    file = users_folder.folder / "my_fsdp.py"
    source = re.sub(r"return fully_shard\(.*\)", "return model", file.read_text())
    file.write_text(source.replace(".detach().full_tensor()", ".detach()"))
    done = users_folder.run("doctor", "--plugin", "my_fsdp.py", "--json")
    assert done.returncode == 4, done.stderr
    failed = [finding for finding in json.loads(done.stdout)["findings"] if finding["status"] == "failed"]
    assert failed
    assert all("same work" in finding["name"] for finding in failed)


@pytest.mark.parametrize("name", [name for name in backend_names() if not load_backend(name).starts_programs])
def test_every_backend_does_the_same_work_on_real_ranks(name):
    backend = load_backend(name)
    found = [check_on_ranks(name, case) for case in backend_cases(backend)]
    assert {finding.name: finding.found for finding in found if finding.status == "failed"} == {}
    assert found


def test_a_node_without_the_file_runs_what_the_case_brings(tmp_path):
    """A node of any site has the package ``bench`` and gets the case; here it is the whole of what it has."""
    for kind, file in ((BACKENDS, "my_fsdp.py"), (WORKLOADS, "my_mlp.py")):
        add_plugin_file(SAMPLES / file, (kind,))
    case = make_case(backend="my_fsdp", workload="my_mlp", ranks=2, window_s=0.1, decompose=False, telemetry="off")
    case = case.model_copy(update={"plugins": sources_of(case)})
    for kind in (BACKENDS, WORKLOADS):
        kind.files.clear()
    shutil.copytree(ROOT / "bench", tmp_path / "node" / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "case.json").write_text(case.model_dump_json())
    place = {
        "SCALING_NODE": "0",
        "SCALING_NODES": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port("127.0.0.1")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.node.agent", "--case", "../case.json", "--out", "../out"],
        cwd=tmp_path / "node",
        env={**os.environ, **place, "PYTHONPATH": str(tmp_path / "node")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = [
        RankRecord.model_validate_json((tmp_path / "out" / f"record-{rank}.json").read_text()) for rank in (0, 1)
    ]
    assert judge_same_work(records).verdict == "same"
