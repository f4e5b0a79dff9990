"""``new`` writes files that are plugins as they are, and never over a file of the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.names import NAME
from bench.plugins.sources import load_text, text_digest
from harness.cli.app import main
from harness.setup.new_file import TEMPLATES, kinds, write_new_file
from harness.setup.plugin_checks import backend_checks
from harness.sweep.plugins import plugin_kinds
from reports.formats.documents import schema_version

WITHOUT_TORCH = ("backend", "probe")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    for kind in plugin_kinds():
        kind.files.clear()


def test_there_is_a_template_of_what_people_write():
    assert kinds() == ["backend", "probe", "workload"]
    assert all(NAME.fullmatch(kind) for kind in kinds())


@pytest.mark.parametrize("kind", WITHOUT_TORCH)
def test_a_new_file_is_a_plugin_of_that_name(kind, capsys):
    assert main(["new", kind, "my-own"]) == 0
    assert capsys.readouterr().out == "my-own.py is written; next: python -m harness doctor --plugin my-own.py\n"
    assert main(["list", "--plugin", "my-own.py", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    (found,) = (plugin for plugin in listed[f"{kind}s"] if plugin["name"] == "my-own")
    assert found["summary"]
    assert listed["broken"] == []


def test_a_new_backend_declares_what_the_contract_asks_for():
    write_new_file("backend", "mine")
    declared = backend_checks(load_text("mine.py", Path("mine.py").read_text()).BACKEND)
    assert [(title, check()) for title, check in declared] == [(title, None) for title, _ in declared]


@pytest.mark.parametrize("kind", kinds())
def test_a_template_is_bounded_and_leaves_no_placeholder(kind):
    text = (TEMPLATES / f"{kind}.py.txt").read_text()
    assert max(map(len, text.splitlines())) <= 120
    write_new_file(kind, "mine")
    assert "NAME" not in Path("mine.py").read_text()


def test_a_file_that_is_there_stays(tmp_path, caplog):
    (tmp_path / "mine.py").write_text("mine = True\n")
    before = text_digest((tmp_path / "mine.py").read_text())
    assert main(["new", "workload", "mine"]) == 2
    assert "new workload mine.py: holds something that this command has not written" in caplog.text
    assert text_digest((tmp_path / "mine.py").read_text()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wrkload", "mine"], "there is no template of this kind; did you mean 'workload'?"),
        (["workload", "mnist"], "there is a workload 'mnist' already; choose another name"),
        (["backend", "../mine"], "'../mine' is no name"),
        (["backend", ""], "'' is no name"),
    ],
)
def test_a_wrong_name_is_named(arguments, said, tmp_path, caplog):
    assert main(["new", *arguments]) == 2
    assert said in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_the_document_names_file_and_next_step(capsys):
    assert main(["new", "probe", "mine", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "schema": "scaling-harness/new/1",
        "schema_version": schema_version("new"),
        "kind": "probe",
        "name": "mine",
        "file": "mine.py",
        "next_step": "python -m harness doctor --plugin mine.py",
    }
