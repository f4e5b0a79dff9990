"""A store that somebody else made may name its sweeps as it likes: they become no path, and the others are read."""

from __future__ import annotations

import json
import sqlite3

import pytest

from harness.cli.app import main
from harness.store.opening import open_store
from tests.support.builders import make_case, make_trial
from tests.support.exports import store_sweep

BAD_IDS = ("../../outside", "{absolute}", "..", "a/b", "x\x1b[2J\u202e[red]y", "a\nerror: forged", "-rf", "", "A" * 300)


@pytest.fixture
def place(tmp_path):
    """A store in a folder of its own with two sweeps, ``s1`` and ``s2``."""
    folder = tmp_path / "user" / "runs"
    folder.mkdir(parents=True)
    for number, name in enumerate(("s1", "s2")):
        trials = [make_trial(make_case(ranks=1), 0, 0.1 + number)]
        store_sweep(folder / "r.sqlite", trials, name=name, started_at=f"2026-01-0{number + 1}T00:00:00+00:00")
    return folder / "r.sqlite"


def add(place, name: str, *, finished: bool = True) -> None:
    """A newer sweep, named so in every table and in its record, as by somebody who wants a file elsewhere."""
    store_sweep(place, [make_trial(make_case(ranks=1))], name="bad", started_at="2026-01-03T00:00:00+00:00")
    connection = sqlite3.connect(place)
    (body,) = connection.execute("select body from sweeps where id = 'bad'").fetchone()
    body = json.dumps(json.loads(body) | {"id": name})
    connection.execute("update sweeps set id = ?, body = ? where id = 'bad'", (name, body))
    for table in ("trials", "nights", "cells", "measures"):
        connection.execute(f"update {table} set sweep = ? where sweep = 'bad'", (name,))
    if not finished:
        connection.execute("update sweeps set finished_at = null where id = ?", (name,))
    connection.commit()
    connection.close()


def add_bad_ones(place, tmp_path) -> None:
    for name in BAD_IDS:
        add(place, name.format(absolute=tmp_path / "outside"))


def files_outside(tmp_path) -> list[str]:
    folder = tmp_path / "user" / "runs"
    return [str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(folder) and path.is_file()]


COMMANDS = {
    "report": ["report"],
    "several": ["report", "s1", "latest"],
    "index": ["report", "--index", "INDEX"],
    "check": ["check"],
    "export": ["export"],
    "list": ["sweeps", "list"],
    "compare": ["sweeps", "compare", "s1", "latest"],
    "merge": ["merge", "STORE", "--store", "OTHER"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_they_are_left_out_and_the_others_are_read(place, tmp_path, capfd, monkeypatch, command):
    monkeypatch.chdir(place.parent)
    add_bad_ones(place, tmp_path)
    words = {"INDEX": str(place.parent / "nights"), "STORE": str(place), "OTHER": str(place.parent / "other.sqlite")}
    arguments = [words.get(word, word) for word in command]
    status = main(arguments if "--store" in command else [*arguments, "--store", str(place)])
    output, error = capfd.readouterr()
    assert status in (0, 3)
    assert files_outside(tmp_path) == []
    assert error.count("a sweep is left out: its id '") == len(BAD_IDS)
    assert output.replace("\r\n", "\n").replace("\n", "").isprintable()
    assert error.replace("\n", "").isprintable()
    assert "\nerror: forged" not in error
    pages = {path.name for path in place.parent.rglob("*.html")}
    assert pages <= {"report.html", "beside-s1.html", "index.html", "s1.html", "s2.html"}


def test_a_merge_takes_the_others(place):
    add(place, "../../outside")
    other = place.parent / "other.sqlite"
    assert main(["merge", str(place), "--store", str(other)]) == 0
    store = open_store(str(other), create=False)
    assert store.sweep_ids() == ["s1", "s2"]
    store.close()


def test_an_unfinished_one_is_not_resumed(place, capfd):
    add(place, "../../outside", finished=False)
    assert main(["sweep", "--resume", "--store", str(place)]) == 2
    assert "holds no unfinished sweep" in capfd.readouterr().err


def test_a_planted_link_is_not_written_through(place, tmp_path, capfd):
    outside = tmp_path / "outside"
    outside.mkdir()
    (place.parent / "s1").symlink_to(outside)
    assert main(["report", "s1", "--store", str(place)]) == 2
    error = capfd.readouterr().err
    assert "is a symbolic link that leads out of" in error
    assert error.count("\n") == 1
    assert list(outside.iterdir()) == []
    (place.parent / "nights").mkdir()
    (place.parent / "nights" / "s1.html").symlink_to(outside / "x")
    assert main(["report", "--index", str(place.parent / "nights"), "--store", str(place)]) == 2
    assert list(outside.iterdir()) == []


def test_ids_that_differ_in_capitals_have_pages_of_their_own(place):
    add(place, "S1")
    assert main(["report", "--index", str(place.parent / "nights"), "--store", str(place)]) == 0
    pages = [path.name.lower() for path in (place.parent / "nights").glob("*.html")]
    assert len(set(pages)) == len(pages) == 4


def test_a_sweep_named_like_the_index_does_not_replace_it(place):
    add(place, "index")
    assert main(["report", "--index", str(place.parent / "nights"), "--store", str(place)]) == 0
    assert len(list((place.parent / "nights").glob("*.html"))) == 4
