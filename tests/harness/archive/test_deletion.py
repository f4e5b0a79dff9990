"""A sweep is deleted with what is its own beside the store, and nothing else; an interrupted deletion is finished."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.archive.removal import NOTE_PREFIX
from harness.cli import sweeps
from harness.cli.app import main
from harness.store.deletion import ROWS_OF_A_SWEEP, StoredRows, stored_rows
from harness.store.opening import open_store
from harness.sweep.artifacts import held_folder
from tests.support.builders import make_case, make_trial
from tests.support.exports import store_sweep
from tests.support.stores import begin

LOG = "00-0a1b2c3d"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a store of three sweeps; the second has a page, logs and a file of somebody else."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("s1", "s2", "s3")):
        store_sweep("r.sqlite", [make_trial(make_case(ranks=1))], name=name, started_at=f"2026-01-0{number + 1}")
    assert main(["report", "s2", "--store", "r.sqlite", "-q"]) == 0
    (tmp_path / "s2" / LOG).mkdir()
    (tmp_path / "s2" / LOG / "rank-0.log").write_text("died\n")
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


def rows(sweep: str, place="r.sqlite") -> StoredRows:
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


def test_a_deletion_that_is_killed_anywhere_leaves_the_sweep_whole_or_gone(folder, run):
    """Killed before each operation on a file, one after the other, until a deletion comes to its end."""
    whole = files(folder), rows("s2")
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    states = []
    for operations in range(200):
        status = deleting_process(operations)
        gone = ids() == ["s1", "s3"]
        assert gone or (ids(), rows("s2")) == (["s1", "s2", "s3"], whole[1])
        assert not gone or rows("s2") == StoredRows()
        if not gone:
            assert set(whole[0]) <= set(files(folder))
        states.append(gone)
        # What the next command of this kind finds.
        assert run("prune", "--keep", "99", "--yes")[0] == 0
        assert [name for name in files(folder) if not name.startswith(".")] == (["r.sqlite"] if gone else whole[0])
        assert not list(folder.glob(f"{NOTE_PREFIX}*"))
        if status == 0:
            break
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
        os.chdir(folder)
    assert status == 0
    assert states == sorted(states)
    assert {False, True} == set(states)


def deleting_process(operations: int) -> int:
    """Its exit status; it is killed by SIGKILL before it has begun one more than so many operations on files."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = 0

    def kill(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event in ("os.remove", "os.rmdir", "os.rename", "os.mkdir", "shutil.rmtree") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes:
            seen += 1
            if seen > operations:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    os._exit(main(["sweeps", "delete", "s2", "--yes", "-q", "--store", "r.sqlite"]))


def test_every_table_that_names_a_sweep_is_emptied():
    """A table that is added must be one of them."""
    from harness.store.tables import metadata

    naming = {name for name, table in metadata.tables.items() if {"sweep", "night"} & set(table.columns.keys())}
    assert naming - {"ingested_runs"} == {column.table.name for column in ROWS_OF_A_SWEEP} - {"sweeps"}


def test_the_group_s_commands_are_those_of_its_help():
    assert {f"sweeps {name}" for name in sweeps.SUBCOMMANDS} == set(sweeps.EXAMPLES) - {"sweeps"}
