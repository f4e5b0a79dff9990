"""A store that somebody else holds: waited for without keeping Ctrl-C waiting, and read without holding it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.errors import StoreError
from harness.store.database import Database
from harness.store.opening import open_store
from harness.store.patience import FIRST_MESSAGE_S, MESSAGE_INTERVAL_S, Patience, is_transient, patience_of
from harness.store.store import TRIALS_AT_ONCE
from harness.store.tables import trials_table
from tests.support.builders import make_case, make_trial
from tests.support.clocks import FakeClock
from tests.support.paths import ROOT
from tests.support.stores import begin


@pytest.fixture
def path(tmp_path):
    return tmp_path / "r.sqlite"


@pytest.fixture
def store(path):
    made = open_store(str(path), create=True)
    begin(made)
    yield made
    made.close()


@contextmanager
def held(path, statements):
    """Another program that holds a lock on the store."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        for statement in statements:
            other.execute(statement).fetchone()
        yield other


READ = ("begin", "select count(*) from sweeps")
WRITE = ("begin immediate",)
BOTH = ("begin exclusive",)


@pytest.mark.parametrize("lock", [READ, WRITE, BOTH], ids=["read", "write", "exclusive"])
def test_a_lock_that_lasts_longer_than_a_command_waits_does_not_end_a_sweep(path, store, lock):
    store.database.patience.limit_s = 0.1
    trial = make_trial(make_case())
    with held(path, lock) as other:
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"database is locked\); wait for the sweep or program"):
            store.add_trial("s1", trial)
        assert 0.1 <= time.monotonic() - began < 5
        release = threading.Timer(0.5, other.rollback)
        release.start()
        with store.patient():
            store.add_trial("s1", trial)
        release.join()
    assert store.trials("s1") == [trial]


def test_the_end_of_a_patient_context_is_the_end_of_the_patience(path, store):
    with store.patient():
        assert store.database.patience.limit_s == 3600
    assert store.database.patience.limit_s == 30
    fixed = open_store(f"sqlite:///{path}?timeout=2", create=False)
    with fixed.patient():
        assert fixed.database.patience.limit_s == 2, "as the URL says"
    fixed.close()


def test_trials_are_read_without_keeping_others_from_writing(path, store):
    count = 3 * TRIALS_AT_ONCE
    for number in range(count):
        store.add_trial("s1", make_trial(make_case(), number))
    impatient = open_store(f"sqlite:///{path}?timeout=0.2", create=True)
    numbers = []
    for batch in store.database.batches(trials_table, TRIALS_AT_ONCE, trials_table.c.sweep == "s1"):
        numbers += [row.round for row in batch]
        impatient.add_trial("s1", make_trial(make_case(), 1000 + len(numbers)))
    impatient.close()
    assert numbers == list(range(count)), "what was there when it began, each once"
    assert len(store.trials("s1")) == count + 3


def test_each_batch_is_looked_up_by_the_keys_of_its_first_and_last_row(store):
    """And not all rows of the sweep are gone through for each batch, which takes time by the square of their number."""
    for number in range(3 * TRIALS_AT_ONCE):
        store.add_trial("s1", make_trial(make_case(), number))
    statements = []

    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    sa.event.listen(store.database.engine, "before_cursor_execute", note)
    odd = (trials_table.c.sweep == "s1") & (trials_table.c.round % 2 == 1)
    numbers = [row.round for batch in store.database.batches(trials_table, TRIALS_AT_ONCE, odd) for row in batch]
    sa.event.remove(store.database.engine, "before_cursor_execute", note)
    assert numbers == list(range(1, 3 * TRIALS_AT_ONCE, 2))
    plans = []
    with store.database.reading() as connection:
        for statement, parameters in statements:
            if "body" in statement:
                plans += connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert len(plans) == 2
    assert all("(sweep,key,round)>" in plan[-1] for plan in plans)


@pytest.mark.slow
@pytest.mark.parametrize("lock", [WRITE, BOTH], ids=["write", "exclusive"])
def test_an_interrupt_ends_a_command_that_waits(path, store, lock):
    command = ["report", "--store", str(path)] if lock is BOTH else ["merge", str(path), "--store", "other.sqlite"]
    if lock is WRITE:
        open_store(str(path.parent / "other.sqlite"), create=True).close()
    with held(path if lock is BOTH else path.parent / "other.sqlite", lock):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *command],
            cwd=path.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            wait_for_open(process, path if lock is BOTH else path.parent / "other.sqlite")
            time.sleep(0.5)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
            assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert "Traceback" not in output


def wait_for_open(process, path):
    deadline = time.monotonic() + 60
    while str(path) not in {os.path.realpath(file) for file in open_files(process.pid)}:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def open_files(pid):
    return list(Path(f"/proc/{pid}/fd").iterdir())


def test_waiting_is_told_once_a_minute(caplog):
    clock = FakeClock()
    patience = Patience(200.0, clock=clock, sleep=clock.sleep)
    left = list(patience.attempts("store x", "another program has locked it", pause_s=0.5))
    assert left[0] == 200
    assert left[-1] == 0
    assert clock.now == pytest.approx(200)
    assert len(caplog.messages) == 1 + (200 - FIRST_MESSAGE_S) // MESSAGE_INTERVAL_S
    assert caplog.messages[0] == "store x: another program has locked it; waiting for it, at most 190 s more"


def test_a_patience_of_nothing_is_one_attempt():
    assert list(Patience(0.0).attempts("store x", "")) == [0.0]


@pytest.mark.parametrize(
    ("url", "limit_s"),
    [
        ("sqlite:///r.sqlite", 30),
        ("sqlite:///r.sqlite?timeout=2.5", 2.5),
        ("sqlite:///r.sqlite?timeout=soon", 30),
        ("sqlite:///r.sqlite?timeout=nan", 30),
        ("sqlite:///r.sqlite?timeout=-1", 0),
        ("sqlite:///r.sqlite?timeout=1e300", 1e300),
        ("postgresql+psycopg://u@h/d", 30),
    ],
)
def test_the_url_says_how_long_it_is_waited_for(url, limit_s):
    assert patience_of(sa.make_url(url)).limit_s == limit_s


class ServerError(Exception):
    """What psycopg raises, as far as it is looked at."""

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("message", "sqlstate", "transient"),
    [
        ("connection failed: Connection refused", None, True),
        ("server closed the connection unexpectedly", None, True),
        ("the database system is starting up", "57P03", True),
        ("terminating connection due to administrator command", "57P01", True),
        ("canceling statement due to lock timeout", "55P03", True),
        ("canceling statement due to statement timeout", "57014", True),
        ("deadlock detected", "40P01", True),
        ('password authentication failed for user "x"', None, False),
        ('database "x" does not exist', None, False),
        ("permission denied for table trials", "42501", False),
        ("could not extend file: No space left on device", "53100", False),
        ("duplicate key value", "23505", False),
    ],
)
def test_what_a_server_may_recover_from_is_tried_again(message, sqlstate, transient):
    problem = sa.exc.OperationalError("insert", {}, ServerError(message, sqlstate))
    assert is_transient(problem) is transient


@pytest.mark.frameworks
def test_an_action_is_repeated_until_the_server_is_back_and_knows_of_the_failure():
    clock = FakeClock()
    pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    database = Database(sa.create_engine("postgresql+psycopg://u@h/d"), "server")
    database.patience = Patience(60.0, clock=clock, sleep=clock.sleep)
    attempts = []

    def action(failed_before: bool) -> str:
        attempts.append(failed_before)
        if len(attempts) < 4:
            refused = sa.exc.OperationalError("insert", {}, ServerError("Connection refused", None))
            raise StoreError("store server: cannot be written") from refused
        return "done"

    assert database.retry(action) == "done"
    assert attempts == [False, True, True, True]
    with pytest.raises(StoreError, match="for good"):
        database.retry(lambda _: raise_for_good())


def raise_for_good():
    denied = sa.exc.OperationalError("insert", {}, ServerError("permission denied", "42501"))
    raise StoreError("for good") from denied
