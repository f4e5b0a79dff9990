"""A ``~`` is the home folder in every path that a command takes: shells leave ``--out=~/x`` and quoted words as they
are."""

from __future__ import annotations

from contextlib import closing

import pytest

from bench.host.paths import from_home
from bench.plugins.registry import PROBES
from harness.cli.app import main
from harness.errors import StoreError
from harness.planning.suite import read_suite
from harness.store.location import store_path
from harness.store.opening import open_store
from tests.support.stores import write_sweep

COMMANDS = {
    "x.html": ("report", "--store=~/r.sqlite", "--out=~/x.html"),
    "index": ("report", "--store", "~/r.sqlite", "--index=~/index"),
    "o.csv": ("export", "--store=~/r.sqlite", "--out=~/o.csv"),
    "j.xml": ("check", "--store=~/r.sqlite", "--junit=~/j.xml"),
    "m.md": ("check", "--store=~/r.sqlite", "--markdown", "~/m.md"),
    "h.html": ("check", "--store=~/r.sqlite", "--html=~/h.html"),
    "copy.sqlite": ("merge", "~/r.sqlite", "--store=~/copy.sqlite"),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    yield home
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("written", COMMANDS)
def test_what_is_written(home, written):
    write_sweep(str(home / "r.sqlite"), "s1", 1)
    with closing(open_store("~/r.sqlite", create=True)) as store:
        store.finish_sweep("s1", "2026-01-01T01:00:00+00:00")
    assert main(COMMANDS[written]) in (0, 3)
    assert (home / written).exists()


def test_what_is_read(home, capfd, monkeypatch):
    monkeypatch.setattr(PROBES, "files", {})
    (home / "t.csv").write_text("ranks,throughput\n1,10\n2,18\n4,30\n")
    assert main(["fit", "~/t.csv"]) == 0
    (home / "p.py").write_text("from bench.plugins.probe import ProbePlugin\nPROBE = ProbePlugin('mine', None)\n")
    assert main(["list", "--plugin", "~/p.py"]) == 0
    assert "mine" in capfd.readouterr().out
    for command in (["ingest", "~/b.json"], ["check", "--history=~/a.csv", "--current=~/b.csv"]):
        assert main(command) == 2
        assert str(home) in capfd.readouterr().err


def test_suites_and_the_plugins_that_they_name(home):
    (home / "mine.toml").write_text("plugins = ['~/p.py', 'q.py']\n")
    assert read_suite("~/mine.toml").plugins == (str(home / "p.py"), str(home / "q.py"))


def test_a_name_of_nobody_is_a_name(home):
    assert str(from_home("~nobody-of-that-name/x")) == "~nobody-of-that-name/x"
    assert str(store_path("~nobody-of-that-name")) == "~nobody-of-that-name"
    assert str(from_home("./~/x")) == "~/x"


def test_a_store_at_home_is_named_as_it_was_typed(home, capfd):
    assert main(["report", "--store", "~/none.sqlite"]) == StoreError.exit_code
    assert "store ~/none.sqlite: no such file" in capfd.readouterr().err
