"""Where a store is: what is a file, what is a URL, what is neither, and what is shown of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.store.location import is_same_store, parse_location
from harness.store.opening import check_store, open_store
from tests.support.paths import ROOT
from tests.support.stores import begin
from tests.support.stores import opened as opened

PASSWORD = "geheim/p@ss:w%rd?x"
MISTYPED = [
    "postgres://me:geheim@db/results",
    "postgresq://me:geheim@db/results",
    "postgresql:/me:geheim@db/results",
    "postgresql:me:geheim@db/results",
    "postgresql//me:geheim@db/results",
    "postgresql+psycopg2://me:geheim@db/results",
    "postgresql+psycopg:/me:geheim@db/results",
    "mysql://me:geheim@db/results",
    "mysql+pymysql://me:geheim@db/results",
    "http://me:geheim@db/results",
    "s3://geheim/results.sqlite",
    "s3:/geheim/results.sqlite",
    "jdbc:postgresql://me:geheim@db/results",
    '"postgresql://me:geheim@db/results"',
    "url=postgresql://me:geheim@db/results",
    "me:geheim@db/results",
    "me:geheim@db",
    "//me:geheim@db/results",
    "me:ge/heim@db:5432/results",
    "host=db user=me password=geheim dbname=results",
    "host=db passfile=geheim",
    "password=geheim",
    "postgresql://me:geheim",
    "postgresql://me:geheim/db/results",
    "postgresql://me@db:geheim/results",
    "postgresql://me:a@geheim@db/results",
    "postgresql://me:a@b/geheim@db/results",
    "postgresql://me:a@b?geheim@db/results",
    "postgresql://db?password=ge@heim",
    "sqlite:geheim.sqlite",
    "sqlite:/geheim.sqlite",
    "sqlite3:geheim.sqlite",
    "sqlite://geheim.sqlite",
    "sqlite://me:geheim@host/r.sqlite",
    "sqlite+aiosqlite:///geheim.sqlite",
    "file:/geheim.sqlite",
]


@pytest.mark.parametrize("text", MISTYPED)
def test_a_mistyped_url_is_no_file_and_shows_no_password(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (check_store, lambda text: open_store(text, create=True), lambda text: open_store(text, create=False)):
        with pytest.raises(StoreError) as caught:
            use(text)
        message = str(caught.value)
        assert "geheim" not in message
        assert "\n" not in message
        assert "correct" in message or "name a file" in message
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_such_a_name_can_be_meant(tmp_path, monkeypatch, opened):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me:x@db").mkdir()
    begin(opened("./me:x@db/r.sqlite"))
    begin(opened(f"{tmp_path}/sqlite:r.sqlite"))
    assert {path.name for path in tmp_path.iterdir()} == {"me:x@db", "sqlite:r.sqlite"}


SPELLINGS = [
    "postgresql://me:{quoted}@db/x",
    "postgresql+psycopg://me:{quoted}@db:5432/x?sslmode=require",
    "POSTGRESQL+PSYCOPG://me:{quoted}@db/x",
    "  postgresql://me:{quoted}@db/x ",
    "postgresql://db/x?user=me&password={quoted}",
    "postgresql://db/x?user=me&PASSWORD={quoted}",
    "postgresql://db/x?passwort={quoted}",
    "postgresql://db/x?sslpassword={quoted}&user=me",
    "postgresql://db/x?passfile={quoted}",
    "postgresql://db/x?options=-c%20app.password%3D{quoted}",
    "postgresql:///x?host=/var/run/postgresql&password={quoted}",
]


passwords = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F), min_size=1).filter(str.strip)


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=30)
@given(password=passwords)
def test_no_part_of_a_password_is_shown(spelling, password):
    location = parse_location(spelling.format(quoted=quote(password, safe="")))
    assert location.path is None
    assert repr(location) == repr(parse_location(spelling.format(quoted="another")))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_password_that_is_used_is_the_one_that_was_meant(spelling):
    url = parse_location(spelling.format(quoted=quote(PASSWORD, safe=""))).engine_url("ro")
    values = [url.password, *(str(value).partition("password=")[2] or value for value in url.query.values())]
    assert PASSWORD in values
    assert url.drivername == "postgresql+psycopg"


def test_what_a_driver_says_is_shown_without_the_password():
    location = parse_location(f"postgresql://me:{quote(PASSWORD, safe='')}@db/x?token=abcdef")
    for said in (PASSWORD, quote(PASSWORD, safe=""), "abcdef"):
        assert location.redact(f'invalid connection option "{said}"') == 'invalid connection option "***"'


NAMES = [
    "a?b#c%20.sqlite",
    "a%5Fb.sqlite",
    "#.sqlite",
    "a&b=c;d.sqlite",
    "größe.sqlite",
    "x?mode=memory",
    "é\u0301 .db",
]


@pytest.mark.parametrize("name", NAMES)
def test_characters_of_a_file_s_name_are_themselves(tmp_path, monkeypatch, opened, name):
    monkeypatch.chdir(tmp_path)
    begin(opened(name))
    assert opened(f"sqlite:///{quote(name)}", create=False).sweep_ids() == ["s1"]
    assert opened(str(tmp_path / name), create=False).sweep_ids() == ["s1"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert is_same_store(name, f"sqlite:////{quote(str(tmp_path / name))[1:]}")


def test_a_name_of_bytes_that_are_no_text(tmp_path, opened):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.sqlite")
    begin(opened(path))
    assert opened(path, create=False).sweep_ids() == ["s1"]
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [b"\xff.sqlite"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqlite:///r.sqlite?b", "no option 'b'"),
        ("sqlite:///a?b#c.sqlite", "write a ? of a file's name as %3F"),
        ("sqlite:///r.sqlite?timeuot=5", "no option 'timeuot'"),
        ("sqlite:///r.sqlite?mode=ro", "no option 'mode'"),
        ("sqlite:///r.sqlite?password=geheim", "no option 'password'"),
        ("sqlite:///r.sqlite?timeout=soon", "timeout is no number of seconds"),
        ("sqlite:///r.sqlite?timeout=nan", "timeout is no number of seconds"),
        ("sqlite:///r.sqlite?timeout=-1", "timeout is no number of seconds"),
        ("sqlite:///r.sqlite?timeout=1e300", "timeout is no number of seconds"),
        ("sqlite:///r.sqlite?timeout=1&timeout=2", "an option twice"),
        ("sqlite:///file:r.sqlite", "needs ?uri=true"),
        ("sqlite://", "in memory is lost"),
        ("sqlite:///:memory:", "in memory is lost"),
        ("sqlite:///file::memory:?uri=true", "in memory is lost"),
        ("sqlite:///file:r?mode=memory&uri=true", "in memory is lost"),
        ("", "is no name of a file"),
        ("a\0b", "is no name of a file"),
        ("sqlite:///a%00b", "names no file"),
    ],
)
def test_what_sqlite_would_ignore_or_lose_is_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError) as caught:
        open_store(text, create=True)
    assert message in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed_store(tmp_path, opened) -> Path:
    path = tmp_path / "kept" / "r.sqlite"
    store = opened(str(path))
    begin(store)
    store.close()
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_reading_changes_and_leaves_nothing(closed_store, opened, journal):
    with closing(sqlite3.connect(closed_store)) as other:
        other.execute(f"pragma journal_mode = {journal}")
    before = snapshot(closed_store.parent)
    with closing(open_store(str(closed_store), create=False)) as store:
        assert store.sweep_ids() == ["s1"]
        assert store.trials("s1") == []
    assert snapshot(closed_store.parent) == before


READ = """
import os, sys
from harness.store.opening import open_store
folder, path = sys.argv[1:]
os.chmod(folder, 0o555)
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
assert not os.access(folder, os.W_OK)
print(open_store(path, create=False).sweep_ids())
"""


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_store_in_a_folder_that_cannot_be_written_is_read(closed_store, journal):
    with closing(sqlite3.connect(closed_store)) as other:
        other.execute(f"pragma journal_mode = {journal}")
    # Other users can't reach the folders of pytest, nor those of a process that has opened a scratch folder.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = shutil.copy(closed_store, folder)
        run = subprocess.run(
            [sys.executable, "-c", READ, folder, path],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.stdout == "['s1']\n", run.stderr
        assert [path.name for path in Path(folder).iterdir()] == ["r.sqlite"]


@pytest.mark.slow
def test_what_a_killed_writer_left_is_undone_by_a_reader(closed_store, opened):
    """A journal beside the file belongs to a transaction that did not end: the file alone is half of it."""
    writer = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('pragma cache_spill = 1'); c.execute('pragma cache_size = 1'); c.execute('begin')\n"
        "c.execute('update sweeps set id = ?', ('x' * 9,))\n"
        "c.executemany('insert into environments values (?, ?)', [(str(n), 'y' * 4000) for n in range(200)])\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", writer, closed_store], check=False, timeout=60)
    assert closed_store.with_name("r.sqlite-journal").exists()
    assert opened(str(closed_store), create=False).sweep_ids() == ["s1"]


def test_a_missing_store_and_its_folder_are_not_made_by_reading(tmp_path):
    for text in (
        str(tmp_path / "a/r.sqlite"),
        f"sqlite:////{tmp_path}/a/r.sqlite",
        f"sqlite:///file:{tmp_path}/r?uri=1",
    ):
        with pytest.raises(StoreError, match="no such file"):
            open_store(text, create=False)
        with pytest.raises(StoreError, match="no such file"):
            open_store(text, create=False, upgrade=True)
    assert list(tmp_path.iterdir()) == []


def test_the_same_store_under_two_names(tmp_path):
    assert is_same_store(f"{tmp_path}/r.sqlite", f"sqlite:///{tmp_path}/x/../r.sqlite")
    assert is_same_store("postgresql://me:a@db/x", "postgresql+psycopg://me:a@db/x")
    assert not is_same_store("postgresql://me:a@db/x", "r.sqlite")
    assert sa.make_url("postgresql+psycopg://me:a@db/x") == parse_location("postgresql://me:a@db/x").server
