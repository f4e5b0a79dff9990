"""No command shows, stores or passes on the password of a store's URL, wherever it was typed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.check.nightly import NightlyOptions, run_command
from harness.cli.app import main
from harness.cli.output import command_line
from harness.errors import EXIT_OK, EXIT_USAGE
from harness.store import STORE_VARIABLE
from harness.store.opening import open_store
from tests.support.stores import begin

URLS = [
    "postgresql+psycopg://me:geh/eim@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?user=me&password=geh/eim",
    "postgres://me:geh/eim@db/x",
    "postgresql:/me:geh/eim@db/x",
    "host=127.0.0.1 port=1 password=geh/eim",
]
COMMANDS = [
    ["report", "--store", "{}"],
    ["report", "--store={}"],
    ["report", "--index", "pages", "--store", "{}"],
    ["report", "{}"],
    ["report", "{}", "latest"],
    ["report", "--stroe={}"],
    ["check", "--store", "{}"],
    ["check", "--sweep", "{}"],
    ["check", "--accept", "curve", "--because", "x", "--store", "{}"],
    ["export", "--store={}"],
    ["export", "{}"],
    ["merge", "{}"],
    ["merge", "r.sqlite", "--store={}"],
    ["merge", "r.sqlite", "{}"],
    ["ingest", "runs.json", "--store", "{}"],
    ["nightly", "--store", "{}"],
    ["sweep", "--backends", "single", "--workloads", "synthetic", "--store", "{}"],
    ["sweep", "{}"],
    ["sweep", "--set", "ddp.bucket_cap_mb={}"],
    ["sweep", "--set", "{}"],
    ["sweep", "--resume", "--store={}"],
    ["sweeps", "list", "--store", "{}"],
    ["sweeps", "delete", "{}", "--yes"],
    ["sweeps", "tag", "latest", "{}"],
    ["list", "--store", "{}"],
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.json").write_text("{}")
    store = open_store("r.sqlite", create=True)
    begin(store)
    store.close()
    return tmp_path


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_refused_command_is_one_line_without_the_password(folder, monkeypatch, capsys, command, url):
    before = sorted(path.name for path in folder.rglob("*"))
    monkeypatch.setenv(STORE_VARIABLE, "r.sqlite")
    assert main([word.format(url) for word in command]) == EXIT_USAGE
    said = capsys.readouterr()
    assert "eim" not in said.out + said.err
    assert said.err.count("\n") == 1, said.err
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("form", [["--store", "{}"], ["--store={}"], ["{}"], ["--set", "x.y={}"], ["--set=x.y={}"]])
def test_the_stored_command_holds_no_password(monkeypatch, form, url):
    monkeypatch.setattr("sys.argv", ["harness", "sweep", *(word.format(url) for word in form)])
    command = command_line()
    assert "geh" not in command
    assert "eim" not in command


def test_an_option_with_the_name_of_a_secret_is_not_stored(monkeypatch):
    monkeypatch.setattr("sys.argv", ["harness", "sweep", "--set", "workload.mine.api_key=geh,eim und mehr"])
    assert command_line() == "python -m harness sweep --set 'workload.mine.api_key=***'"


def test_the_store_s_variable_is_read_and_not_passed_on(folder, monkeypatch, capsys):
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{folder}/r.sqlite")
    assert main(["export"]) == EXIT_OK
    assert STORE_VARIABLE not in os.environ


@pytest.mark.slow
def test_a_password_of_a_night_is_no_argument_of_its_steps(tmp_path):
    secret = NightlyOptions("quick", URLS[0], tmp_path)
    plain = NightlyOptions("quick", "r.sqlite", tmp_path)
    assert (secret.store_options, secret.store_variables) == ((), {STORE_VARIABLE: URLS[0]})
    assert (plain.store_options, plain.store_variables) == (("--store", "r.sqlite"), {})
    script = f"import os; raise SystemExit(os.environ[{STORE_VARIABLE!r}] != {URLS[0]!r})"
    assert run_command([sys.executable, "-c", script], None, secret.store_variables) == 0
