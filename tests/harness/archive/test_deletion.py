"""A sweep is deleted with what is its own beside the store, and nothing else; an interrupted deletion is finished."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.archive.removal import NOTE_PREFIX
from harness.cli import sweeps
from harness.cli.app import main
from harness.store.artifacts import held_folder
from harness.store.deletion import ROWS_OF_A_SWEEP, StoredRows, stored_rows
from harness.store.opening import open_store
from tests.support.builders import make_case, make_trial
from tests.support.exports import store_sweep
from tests.support.killed_deletions import state
from tests.support.paths import ROOT
from tests.support.stores import begin

LOG = "00-0a1b2c3d"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a store of three sweeps; the second has a page and logs."""
    folder = tmp_path_factory.mktemp("made")
    place = str(folder / "r.sqlite")
    for number, name in enumerate(("s1", "s2", "s3")):
        store_sweep(place, [make_trial(make_case(ranks=1))], name=name, started_at=f"2026-01-0{number + 1}")
    assert main(["report", "s2", "--store", place, "-q"]) == 0
    (folder / "s2" / LOG).mkdir()
    (folder / "s2" / LOG / "rank-0.log").write_text("died\n")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder, capfd):
    capfd.readouterr()

    def run(*arguments):
        status = main(["sweeps", *arguments, "--store", "r.sqlite"])
        return status, *capfd.readouterr()

    return run


def ids(place="r.sqlite") -> list[str]:
    with closing(open_store(place, create=False)) as store:
        return store.sweep_ids()


def rows(sweep: str, place: str = "r.sqlite") -> StoredRows:
    with closing(open_store(place, create=False)) as store:
        return stored_rows(store.database, sweep)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_rows_pages_and_logs_go_and_what_went_is_said(folder, run):
    status, out, _ = run("delete", "s2", "--yes")
    assert status == 0
    assert "deleted s2 (synthetic: ddp at 1 rank): 1 trial, 2 files in " in out
    assert ids() == ["s1", "s3"]
    assert rows("s2") == StoredRows()
    assert files(folder) == ["r.sqlite"]


def test_what_is_not_the_sweep_s_stays(folder, run, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("kept")
    own = folder / "s2"
    (own / "notes.txt").write_text("mine")
    (own / "beside-s1.html").write_text("a page of mine")
    (own / "01-0a1b2c3d").symlink_to(outside)
    (own / LOG / "link").symlink_to(outside / "precious")
    (folder / ".scaling-deleted-x.json").write_text("{")
    status, out, _ = run("delete", "s2", "--yes", "--json")
    assert status == 0
    (sweep,) = json.loads(out)["sweeps"]
    assert sweep["folder"]["others"] == ["01-0a1b2c3d", "beside-s1.html", "notes.txt"]
    assert sweep["folder"]["files"] == 3
    assert sorted(path.name for path in own.iterdir()) == ["01-0a1b2c3d", "beside-s1.html", "notes.txt"]
    assert (outside / "precious").read_text() == "kept"
    assert (folder / ".scaling-deleted-x.json").exists()


def test_a_folder_that_is_no_sweep_s_is_not_emptied_because_of_its_name(folder, run):
    (folder / "src").mkdir()
    (folder / "src" / "main.py").write_text("mine")
    store_sweep("r.sqlite", [make_trial(make_case(ranks=1))], name="src", started_at="2026-01-09")
    assert run("delete", "src", "--yes")[0] == 0
    assert (folder / "src" / "main.py").read_text() == "mine"


def test_a_folder_that_is_a_link_is_refused(folder, run, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    shutil.move(folder / "s2", outside / "s2")
    (folder / "s2").symlink_to(outside / "s2")
    status, _, err = run("delete", "s2", "--yes")
    assert (status, err.count("\n")) == (2, 1)
    assert "is a symbolic link that leads out of" in err
    assert (outside / "s2" / LOG).is_dir()
    assert ids() == ["s1", "s2", "s3"]


def test_pages_stay_while_another_store_beside_has_the_sweep_too(folder, run):
    assert main(["merge", "r.sqlite", "--store", "copy.sqlite", "-q"]) == 0
    status, _, err = run("delete", "s2", "--yes")
    assert status == 2
    assert "error: sweep s2: its folder" in err
    assert "stays: store copy.sqlite holds the sweep too" in err
    assert (ids(), ids("copy.sqlite")) == (["s1", "s3"], ["s1", "s2", "s3"])
    assert (folder / "s2" / LOG).is_dir()


def test_a_sweep_that_runs_is_refused_and_one_that_was_interrupted_is_not(folder, run):
    with closing(open_store("r.sqlite", create=True)) as store:
        begin(store, "s4", "2026-01-04T00:00:00+00:00")
    with held_folder(folder / "s4", "s4"):
        status, _, err = run("delete", "s4", "--yes")
        assert (status, err) == (2, "error: sweep s4 is running; wait for its end, or interrupt it\n")
        assert json.loads(run("list", "--json")[1])["sweeps"][0]["state"] == "running"
        assert "kept s4: it is running" in run("prune", "--older-than", "1d")[1]
    assert json.loads(run("list", "--json")[1])["sweeps"][0]["state"] == "unfinished"
    assert run("delete", "s4", "--yes")[0] == 0
    assert ids() == ["s1", "s2", "s3"]


def test_one_that_another_machine_began_needs_a_word(run, monkeypatch):
    monkeypatch.setenv("SCALING_MACHINE", "there")
    with closing(open_store("r.sqlite", create=True)) as store:
        begin(store, "s4", "2026-01-04T00:00:00+00:00")
    monkeypatch.setenv("SCALING_MACHINE", "here")
    status, _, err = run("delete", "s4", "--yes")
    assert status == 2
    assert "has not ended, and may still run on there: delete it there, or add --unfinished" in err
    assert run("delete", "s4", "--yes", "--unfinished")[0] == 0


def test_a_sweep_whose_record_is_damaged_is_listed_and_deleted(run):
    with closing(sqlite3.connect("r.sqlite")) as connection:
        connection.execute("update sweeps set body = '{' where id = 's2'")
        connection.commit()
    listed = {one["sweep"]: one for one in json.loads(run("list", "--json")[1])["sweeps"]}
    assert listed["s2"]["title"] is None
    assert "cannot be read" in listed["s2"]["reason"]
    assert listed["s1"]["reason"] is None
    assert run("delete", "s2", "--yes")[0] == 0
    assert ids() == ["s1", "s3"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_it_asks_with_what_goes(run, monkeypatch, answer, gone):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    status, out, err = run("delete", "s2", "latest")
    assert status == 0
    assert err.startswith("would delete s2 (synthetic: ddp at 1 rank): 1 trial, 2 files in ")
    assert err.endswith("Delete? [y/N] ")
    assert out.splitlines()[-1].startswith("deleted 2 sweeps" if gone else "would delete 2 sweeps")
    assert ids() == (["s1"] if gone else ["s1", "s2", "s3"])


def test_where_nobody_can_be_asked_nothing_goes(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run("delete", "s2") == (2, "", "error: delete: nobody is there to be asked; add --yes\n")
    assert ids() == ["s1", "s2", "s3"]


def test_the_configuration_does_not_agree_for_the_user(folder, run):
    (folder / "scaling.toml").write_text("[sweeps.delete]\nyes = true\n")
    status, _, err = run("delete", "s2")
    assert status == 2
    assert "scaling.toml:2: sweeps delete has no option 'yes'" in err


def test_prune_says_what_would_go_and_does_it_when_it_is_told(run):
    assert run("tag", "s1", "release")[0] == 0
    before = Path("r.sqlite").read_bytes()
    status, out, err = run("prune", "--keep", "1")
    assert status == 0
    assert "kept s1: it is tagged release\n" in out
    assert "would delete 1 sweep" in out
    assert err == "nothing was deleted; add --yes to delete them\n"
    assert Path("r.sqlite").read_bytes() == before
    found = json.loads(run("prune", "--keep", "1", "--yes", "--json")[1])
    assert (found["deleted"], [one["sweep"] for one in found["sweeps"]]) == (True, ["s2"])
    assert ids() == ["s1", "s3"]
    assert run("prune", "--keep", "1", "--yes")[1].splitlines()[-1] == "nothing to delete"


@pytest.mark.slow
def test_a_deletion_that_is_killed_anywhere_leaves_the_sweep_whole_or_gone(made, folder):
    """Killed before each operation on a file, until a deletion comes to its end."""
    whole = state(folder)
    command = [sys.executable, "-m", "tests.support.killed_deletions", str(made), str(folder / "again")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    deletions = json.loads(done.stdout)
    for deletion in deletions:
        left, then = deletion["left"], deletion["then"]
        if left["sweeps"] == whole["sweeps"]:
            assert left["rows"] == whole["rows"]
            assert set(whole["files"]) <= set(left["files"])
            assert visible(then["files"]) == whole["files"]
        else:
            assert (left["sweeps"], left["rows"]) == (["s1", "s3"], StoredRows().model_dump())
            assert visible(then["files"]) == ["r.sqlite"]
        assert not any(name.startswith(NOTE_PREFIX) for name in then["files"])
    gone = [deletion["left"]["sweeps"] == ["s1", "s3"] for deletion in deletions]
    assert gone == sorted(gone)
    assert set(gone) == {False, True}
    assert [deletion["status"] for deletion in deletions] == [-signal.SIGKILL] * (len(deletions) - 1) + [0]


def visible(names: list[str]) -> list[str]:
    """Without what a killed process may leave, as it does wherever it writes a file."""
    return [name for name in names if not name.startswith(".scaling-harness-")]


def test_every_table_that_names_a_sweep_is_emptied():
    """A table that is added must be one of them."""
    from harness.store.tables import metadata

    naming = {name for name, table in metadata.tables.items() if {"sweep", "night"} & set(table.columns.keys())}
    assert naming - {"ingested_runs"} == {column.table.name for column in ROWS_OF_A_SWEEP} - {"sweeps"}


def test_the_group_s_commands_are_those_of_its_help():
    assert {f"sweeps {name}" for name in sweeps.SUBCOMMANDS} == set(sweeps.EXAMPLES) - {"sweeps"}
