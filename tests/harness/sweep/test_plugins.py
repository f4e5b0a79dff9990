"""Plugins of every kind in a user's files, by the commands that use them."""

from __future__ import annotations

import json
import shutil

import pytest
from rich.console import Console

from harness.cli.app import main
from harness.errors import UsageError
from harness.store.opening import open_store
from harness.sweep.pipeline import RunSettings, resume
from harness.sweep.plan import SuiteRequest, plan_sweep
from harness.sweep.plugins import plugin_kinds, use_plugin_files
from tests.support.paths import ROOT
from tests.support.stores import begin

SAMPLES = ROOT / "tests" / "support" / "plugins"
KINDS_OF_ONE_FILE = '''
"""A site, a probe, a format and an importer."""
from bench.plugins.probe import ProbePlugin
from harness.importers import Importer
from harness.sites.base.contract import Site
from harness.store.ledger import IngestedRun
from reports.formats.exports import Export, Format

class Nowhere(Site):
    name = "nowhere"
    summary = "runs nothing"

    def render(self, case, roles):
        return {"case.txt": case.key}

    def start(self, request):
        raise NotImplementedError

def read(path, night):
    seconds = float(path.read_text())
    return (IngestedRun(night=night or "n", benchmark="b", run="r", seconds=(seconds,), at="2026-01-01T00:00:00+00:00",
                        place={}, commit=None, source=str(path)),)

SITE = Nowhere()
PROBE = ProbePlugin("nothing at all", lambda case: None)
FORMAT = Format("how many rows there are", (".count",), lambda table: Export(f"{len(table.rows)}\\n"))
IMPORTER = Importer("a number in a file", read)
'''


@pytest.fixture(autouse=True)
def _forget_plugins():
    yield
    for kind in plugin_kinds():
        kind.files.clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    shutil.copy(SAMPLES / "my_mlp.py", tmp_path / "mine")
    shutil.copy(SAMPLES / "my_fsdp.py", tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "mine.toml").write_text(
        'plugins = ["../mine/my_mlp.py"]\nworkloads = ["my_mlp", "synthetic"]\nbackends = ["ddp"]\nranks = [2]\n'
    )
    return tmp_path


def test_a_suite_names_plugins_relative_to_itself_and_flags_add_to_them(folder):
    planned = plan_sweep(SuiteRequest("suites/mine.toml", {"backends": ("ddp", "my_fsdp")}, plugins=("my_fsdp.py",)))
    carried = {
        (case.workload, case.backend): [(plugin.kind, plugin.name) for plugin in case.plugins]
        for case in (*planned.plan.cases, *(skip.case for skip in planned.plan.skips))
    }
    assert carried == {
        ("my_mlp", "ddp"): [("workload", "my_mlp")],
        ("my_mlp", "my_fsdp"): [("backend", "my_fsdp"), ("workload", "my_mlp")],
        ("synthetic", "ddp"): [],
        ("synthetic", "my_fsdp"): [("backend", "my_fsdp")],
    }
    assert planned.suite.plugins == (str(folder / "mine" / "my_mlp.py"), str(folder / "my_fsdp.py"))


def test_an_option_of_a_plugin_is_checked_like_any_other(folder, capsys):
    arguments = ["sweep", "suites/mine.toml", "--dry-run", "--set", "my_mlp.hiden=3"]
    assert main(arguments) == 2
    assert "did you mean 'hidden'?" in capsys.readouterr().err


def test_a_plugin_that_other_users_can_change_is_used_with_a_warning(folder, capsys):
    (folder / "my_fsdp.py").chmod(0o666)
    assert main(["list", "--plugin", "my_fsdp.py"]) == 0
    warning = f"plugin my_fsdp.py runs with your rights, and other users can change {folder / 'my_fsdp.py'} (mode 0666)"
    assert warning in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_missing_ends_a_command_with_one_line(folder, capsys):
    for command in ("sweep --dry-run", "list", "doctor", "check", "export", "ingest one.json"):
        assert main([*command.split(), "--plugin", "no.py"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --plugin: plugin no.py: cannot be read")
        assert error.count("\n") == 1


@pytest.mark.slow
def test_a_sweep_is_not_resumed_with_a_plugin_that_has_changed(folder):
    planned = plan_sweep(SuiteRequest("suites/mine.toml"))
    store = open_store("s.sqlite", create=True)
    info = begin(store, "s0", "2025-01-01T00:00:00+00:00")
    store.finish_sweep("s0", "2025-01-01T00:00:01+00:00")
    store.begin_sweep(info.model_copy(update={"id": "s1", "suite": planned.suite, "plan": planned.plan}))
    store.close()
    file = folder / "mine" / "my_mlp.py"
    file.write_text(file.read_text() + "\n")
    for kind in plugin_kinds():
        kind.files.clear()
    with pytest.raises(UsageError, match=r"plugin my_mlp.py changed since sweep s1 began"):
        resume(RunSettings("s.sqlite", Console(stderr=True)))


def test_one_file_may_hold_plugins_of_several_kinds(folder, capsys):
    (folder / "four.py").write_text(KINDS_OF_ONE_FILE)
    assert main(["list", "--json", "--plugin", "four.py"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {kind: [plugin["name"] for plugin in listed[kind]][-1] for kind in ("sites", "probes", "importers")} == {
        "sites": "nowhere",
        "probes": "four",
        "importers": "four",
    }
    assert main(["sweep", "suites/mine.toml", "--dry-run", "--json", "--plugin", "four.py", "--site", "nowhere"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert len(planned["files"]) == 2
    assert planned["files"] == {key: {"case.txt": key} for key in planned["files"]}
    (folder / "one.txt").write_text("0.5")
    assert main(["ingest", "one.txt", "--from", "four", "--plugin", "four.py", "--store", "s.sqlite"]) == 0
    store = open_store("s.sqlite", create=True)
    assert [run.seconds for run in store.ledger.runs(["n"])] == [(0.5,)]
    begin(store)
    store.close()
    assert main(["export", "--format", "four", "--plugin", "four.py", "--store", "s.sqlite"]) == 0
    assert capsys.readouterr().out.endswith("\n1\n")


def test_an_unknown_importer_is_named_with_those_there_are(folder, capsys):
    assert main(["ingest", "one.json", "--from", "pytest-benchmarks"]) == 2
    assert "--from pytest-benchmarks: unknown importer; did you mean 'pytest-benchmark'?" in capsys.readouterr().err


def test_naming_a_file_twice_is_fine(folder):
    use_plugin_files(["my_fsdp.py", "my_fsdp.py", folder / "my_fsdp.py"])
