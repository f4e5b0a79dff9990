"""Stores that another team, or another program, wrote."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.errors import StoreError
from harness.store.database import Database
from harness.store.foreign import MAX_RECORD_BYTES, limit_connections
from harness.store.merging import merge
from harness.store.opening import check_store, open_store
from tests.support.builders import make_case, make_trial
from tests.support.measured_command import run_measured
from tests.support.stores import begin

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i"


@pytest.fixture
def store_path(tmp_path):
    """A store with one trial."""
    path = tmp_path / "theirs.sqlite"
    with closing(open_store(str(path), create=True)) as store:
        begin(store)
        store.add_trial("s1", make_trial(make_case()))
    return path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def read_everything(path: Path) -> None:
    with closing(open_store(str(path), create=False)) as store:
        info = store.sweep("latest")
        store.trials(info.id)
        store.ledger.measures([info.id])
        store.ledger.settings([info.id])
        store.ledger.outcomes(info.id)
        store.ledger.nights()
        store.ledger.environments()
        store.ledger.verdicts(info.id)
        store.ledger.statuses([info.id])


REPLACED = {
    "a view": (
        ("ALTER TABLE trials RENAME TO hidden", "CREATE VIEW trials AS SELECT * FROM hidden"),
        "'trials' is a view",
    ),
    "an endless view": (
        (
            "DROP TABLE trials",
            f"CREATE VIEW trials (sweep, key, round, outcome, body) AS {ENDLESS}, i, i, i, i FROM n",
        ),
        "'trials' is a view",
    ),
    "a virtual table": (
        ("DROP TABLE measures", "CREATE VIRTUAL TABLE measures USING fts5(sweep, key, round, name, value)"),
        "'measures' is a virtual table",
    ),
    "a computed column": (
        ("DROP TABLE nights", "CREATE TABLE nights (sweep TEXT, suite TEXT AS (upper(sweep)))"),
        "'nights' has no stored column 'suite'",
    ),
    "a missing column": (
        ("ALTER TABLE sweeps DROP COLUMN finished_at",),
        "'sweeps' has no stored column 'finished_at'",
    ),
}


@pytest.mark.parametrize(("statements", "message"), REPLACED.values(), ids=REPLACED)
def test_only_ordinary_tables_with_our_columns_are_read(store_path, tmp_path, statements, message):
    change(store_path, *statements)
    uses = (
        lambda: read_everything(store_path),
        lambda: check_store(str(store_path)),
        lambda: merge(str(store_path), str(tmp_path / "ours.sqlite")),
    )
    for use in uses:
        with pytest.raises(StoreError, match=f"{message}, which .*; name another with --store$"):
            use()


def test_a_trigger_is_harmless_to_readers_and_refused_by_writers(store_path):
    change(
        store_path,
        "CREATE TABLE log (text)",
        "CREATE TRIGGER watch AFTER INSERT ON trials BEGIN INSERT INTO log VALUES (new.key); END",
    )
    read_everything(store_path)
    for write in (lambda: check_store(str(store_path)), lambda: open_store(str(store_path), create=True)):
        with pytest.raises(StoreError, match="'trials' has a trigger"):
            write()


def test_tables_of_others_beside_ours_are_no_fault(store_path):
    change(store_path, "CREATE TABLE notes (text)", "CREATE VIEW newest AS SELECT max(started_at) FROM sweeps")
    read_everything(store_path)
    check_store(str(store_path))


WRONG_VALUES = {
    "a format that is text": ("UPDATE scaling_harness_about SET format = 'two'", "its format is 'two', no number"),
    "no id": ("UPDATE sweeps SET id = x'00'", "a bytes in the column sweeps.id"),
    "a round": ("UPDATE measures SET round = 'x'", "a measure of no trial"),
}


@pytest.mark.parametrize(("statement", "message"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_row_of_other_types_is_one_line(store_path, statement, message):
    change(store_path, statement)
    with pytest.raises(StoreError, match=message) as caught:
        read_everything(store_path)
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_pipe_is_no_store(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "is no regular file"), (".", "is a folder")):
        for use in (lambda place: open_store(place, create=False), check_store):
            with pytest.raises(StoreError, match=message):
                use(str(tmp_path / name))


def test_a_trial_too_large_for_a_store_is_stored_as_failed(tmp_path):
    with closing(open_store(str(tmp_path / "r.sqlite"), create=True)) as store:
        begin(store)
        store.add_trial("s1", make_trial(make_case(), log_tail=("x" * MAX_RECORD_BYTES,)))
        (trial,) = store.trials("s1")
    assert trial.outcome == "failed"
    assert "larger than a store takes (32 MiB): measure fewer steps" in (trial.reason or "")


def test_a_query_has_an_end(store_path):
    engine = sa.create_engine(f"sqlite:///{store_path}")
    limit_connections(engine, max_operations=2_000_000)
    database = Database(engine, "r.sqlite")
    with pytest.raises(StoreError, match=r"interrupted.*; a query reads a few million"), database.reading() as reading:
        reading.exec_driver_sql(f"SELECT count(*) FROM ({ENDLESS} FROM n)").all()
    with database.reading() as reading:
        assert reading.exec_driver_sql("SELECT id FROM sweeps").all() == [("s1",)]
    database.close()


LARGE = MAX_RECORD_BYTES + 1
HEAVY = {
    "a large trial": (f"UPDATE trials SET body = zeroblob({LARGE})", ("report", "merge")),
    "a large sweep": (f"UPDATE sweeps SET body = zeroblob({LARGE})", ("report", "merge")),
    "a large environment": (f"UPDATE environments SET body = zeroblob({LARGE})", ("check",)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("script", "commands"), HEAVY.values(), ids=HEAVY)
def test_a_record_too_large_is_refused_in_little_memory(store_path, tmp_path, script, commands):
    change(store_path, script)
    arguments = {
        "report": ("report", "--store", str(store_path), "--out", str(tmp_path / "page.html")),
        "merge": ("merge", str(store_path), "--store", str(tmp_path / "ours.sqlite")),
        "check": ("check", "--store", str(store_path)),
    }
    for command in commands:
        done = run_measured([sys.executable, "-m", "harness", *arguments[command]], tmp_path)
        assert done.returncode == 2, done.stderr
        assert "a record has at most 32 MiB" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.peak_kib < 512 * 2**10
