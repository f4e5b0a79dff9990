"""Plugins in a user's files: found, carried with a case, told apart by their source, refused in one line."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import pytest

from bench.core.case import Case
from bench.plugins.backend import Backend
from bench.plugins.registry import (
    BACKENDS,
    WORKLOADS,
    PluginKind,
    UnknownPlugin,
    add_plugin_file,
    backend_of,
    load_backend,
    preloaded_modules,
)
from bench.plugins.sources import PluginError, load_source
from bench.plugins.workload import Workload
from reports.analysis.comparison import comparison_key
from reports.analysis.trial_measures import settings_of
from tests.support.builders import make_case
from tests.support.paths import ROOT

SAMPLES = ROOT / "tests" / "support" / "plugins"


@pytest.fixture
def kinds() -> tuple[PluginKind, ...]:
    """Kinds of their own, so that what a test adds is forgotten."""
    return (
        PluginKind("backend", Backend, "bench.backends", BACKENDS.required),
        PluginKind("workload", Workload, "bench.workloads", WORKLOADS.required),
    )


def add(folder, kinds, text: str, name: str = "mine.py") -> None:
    path = folder / name
    path.write_text(text)
    add_plugin_file(path, kinds)


def test_plugins_of_a_file_are_listed_and_loaded(kinds):
    backends, workloads = kinds
    add_plugin_file(SAMPLES / "my_fsdp.py", kinds)
    add_plugin_file(SAMPLES / "my_mlp.py", kinds)
    assert backends.names()[-1] == "my_fsdp"
    assert backends.load("my_fsdp").launch(make_case(ranks=2))[0].count == 2
    assert workloads.load("my_mlp").options().hidden == 64
    assert workloads.source("mnist") is None, "what ships with the project does not travel"
    with pytest.raises(UnknownPlugin, match="unknown backend 'my_mlp'"):
        backends.load("my_mlp")


def test_naming_a_file_twice_is_no_clash(kinds):
    for _ in range(2):
        add_plugin_file(SAMPLES / "my_mlp.py", kinds)
    assert kinds[1].names().count("my_mlp") == 1


BACKEND = (SAMPLES / "my_fsdp.py").read_text()
REFUSED = {
    "defines nothing": ("x = 1", r"mine\.py: defines none of BACKEND, WORKLOAD; .* as it is by --script .*mine\.py$"),
    "raises": ("\nraise ValueError('two\\nlines')", r"mine\.py: ValueError: two lines \(line 2\)$"),
    "imports what is not there": (
        "import nothing_such",
        r"No module named 'nothing_such' \(line 1\); what a plugin imports is installed",
    ),
    "does not parse": ("def", r"mine\.py: SyntaxError: .* \(line 1\)$"),
    "has a path for a name": (
        BACKEND.replace('"my_fsdp"', '"../../x"'),
        r"mine\.py: '\.\./\.\./x' is no name: .*; set the attribute `name` of its BACKEND",
    ),
    "has two names": (BACKEND.replace('"my_fsdp"', '"a,b"'), "'a,b' is no name"),
    "takes a name of ours": (BACKEND.replace('"my_fsdp"', '"ddp"'), "there is a backend 'ddp' already"),
    "is something else": ("BACKEND = 3", "BACKEND of backend 'mine' is of type int, and no Backend"),
    "leaves out a method": (BACKEND.replace("def launch", "def lunch"), "abstract method '?launch"),
    "leaves out an attribute": (BACKEND.replace("    summary =", "    title ="), "MyFsdp does not define summary"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_no_plugin_is_refused_in_one_line(tmp_path, kinds, text, message):
    with pytest.raises(PluginError, match=message) as caught:
        add(tmp_path, kinds, text)
    assert "\n" not in str(caught.value)
    assert kinds[0].files == {}


def test_two_files_with_one_name_clash(tmp_path, kinds):
    add(tmp_path, kinds, BACKEND)
    with pytest.raises(PluginError, match=r"other\.py: there is a backend 'my_fsdp' already"):
        add(tmp_path, kinds, BACKEND + "\n", "other.py")


@pytest.mark.slow
def test_a_case_brings_its_plugin_to_a_process_that_has_no_such_file(tmp_path, kinds):
    add(tmp_path, kinds, BACKEND)
    case = make_case(backend="my_fsdp").model_copy(update={"plugins": (kinds[0].source("my_fsdp"),)})
    (tmp_path / "mine.py").unlink()
    program = """
import sys
from bench.core.case import Case
from bench.plugins.registry import backend_of
case = Case.model_validate_json(sys.stdin.read())
print(backend_of(case).summary)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=case.model_dump_json(),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "fully_shard over the whole model\n"), done.stderr


def test_a_case_keeps_to_the_source_it_brings(tmp_path, kinds):
    add(tmp_path, kinds, BACKEND)
    source = kinds[0].source("my_fsdp")
    changed = source.model_copy(update={"text": BACKEND.replace("over the whole model", "changed")})
    cases = [make_case(backend="my_fsdp").model_copy(update={"plugins": (one,)}) for one in (source, changed, source)]
    assert [backend_of(case).summary for case in cases] == [
        "fully_shard over the whole model",
        "fully_shard changed",
        "fully_shard over the whole model",
    ]


def test_modules_of_this_project_are_loaded_before_ranks_are_forked():
    modules = preloaded_modules(load_backend("horovod"), ["synthetic", "mnist"])
    assert modules[0] == "horovod.torch"
    assert {"bench.backends.horovod", "bench.workloads.synthetic", "bench.workloads.mnist.workload"} <= set(modules)
    assert "bench.telemetry.probes.host.probe" in modules
    assert len(modules) == len(set(modules))


def test_a_module_of_somebody_else_is_loaded_by_the_rank_that_was_given_its_source(kinds):
    backends, workloads = kinds
    add_plugin_file(SAMPLES / "my_fsdp.py", (backends, workloads))
    (name,) = backends.files
    assert backends.module(name) is None


def test_lines_of_a_plugin_are_found_and_its_functions_pickle(tmp_path, kinds):
    add(tmp_path, kinds, BACKEND)
    (tmp_path / "mine.py").unlink()
    plugin = load_source(kinds[0].source("my_fsdp"))
    assert "def launch" in inspect.getsource(type(plugin).launch)
    assert pickle.loads(pickle.dumps(type(plugin))) is type(plugin)


def with_source(text: str) -> Case:
    source = {"kind": "backend", "name": "mine", "file": "mine.py", "digest": text, "attribute": "BACKEND"}
    return Case.model_validate({**make_case().model_dump(), "plugins": [source]})


def test_cases_of_other_sources_are_not_compared():
    assert comparison_key(with_source("a")) == comparison_key(with_source("a"))
    assert comparison_key(with_source("a")) != comparison_key(with_source("b"))
    assert comparison_key(with_source("a")) != comparison_key(make_case())
    assert settings_of(with_source("a")) == settings_of(make_case()) | {"backend mine": "source a"}


INSTALLED = """
import os, sys
from bench.plugins.registry import BACKENDS, load_backend
from bench.core.case import Case
source = BACKENDS.source("my_fsdp")
print(source.text, source.module, load_backend("my_fsdp").summary)
other = source.model_copy(update={"digest": "0"})
try:
    BACKENDS.load_from((other,), "my_fsdp")
except Exception as problem:
    print(problem)
"""


@pytest.mark.slow
def test_an_installed_package_brings_a_plugin_by_an_entry_point(tmp_path):
    """Its text does not travel; a node refuses another version."""
    (tmp_path / "their_package.py").write_text(BACKEND)
    information = tmp_path / "their_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[scaling_harness.backends]\nmy_fsdp = their_package:BACKEND\n")
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "None their_package fully_shard over the whole model", done.stderr
    assert lines[1] == (
        "plugin their_package: its source differs from that on the harness's machine; install the same version"
    )
