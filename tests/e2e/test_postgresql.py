"""The store on a real PostgreSQL server: all it promises on SQLite, a real sweep, and errors as one line."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from harness.errors import StoreError
from harness.store.merging import merge
from harness.store.opening import check_store, open_store
from tests.support.builders import make_case, make_trial
from tests.support.merge_behaviour import MergeBehaviour, UpgradeBehaviour
from tests.support.paths import ROOT
from tests.support.postgresql_server import PASSWORD, CannotServe, serving
from tests.support.store_behaviour import LedgerBehaviour, StoreBehaviour
from tests.support.stores import begin, write_sweep
from tests.support.stores import opened as opened
from tests.support.summary_behaviour import SummaryBehaviour

pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")


@pytest.fixture(scope="module")
def server():
    try:
        with serving() as started:
            started.do("create role guest login password 'guest'")
            yield started
    except CannotServe as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def new_schema(server):
    numbers = itertools.count()

    def make() -> str:
        name = f"results{next(numbers)}"
        server.do(f"create schema {name}", f"grant usage on schema {name} to guest")
        return name

    return make


@pytest.fixture
def new_place(server, new_schema):
    return lambda: server.url(new_schema())


@pytest.fixture
def new_file(tmp_path):
    numbers = itertools.count()
    return lambda: str(tmp_path / f"{next(numbers)}.sqlite")


class TestStore(StoreBehaviour):
    pass


class TestSummaries(SummaryBehaviour):
    pass


class TestLedger(LedgerBehaviour):
    pass


class TestUpgrade(UpgradeBehaviour):
    pass


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ("alter table trials rename to hidden", "create view trials as select * from hidden"),
            "'trials' is no ordinary",
        ),
        (("alter table sweeps drop column finished_at",), "'sweeps' has no stored column 'finished_at'"),
    ],
)
def test_only_ordinary_tables_with_our_columns_are_read(server, new_schema, statements, message):
    schema = new_schema()
    place = server.url(schema)
    open_store(place, create=True).close()
    server.do(*(f"set search_path to {schema}; {statement}" for statement in statements))
    with pytest.raises(StoreError, match=message):
        open_store(place, create=False)


class TestMergeOfAFile(MergeBehaviour):
    @pytest.fixture
    def other_place(self, new_file):
        return new_file


def test_a_store_on_a_server_is_brought_into_a_file_and_back(new_place, new_file, opened):
    there, here, again = new_place(), new_file(), new_place()
    source = opened(there)
    begin(source)
    source.add_trial("s1", make_trial(make_case()))
    assert merge(there, here).trials == merge(here, again).trials == 1
    assert opened(again).trials("s1") == source.trials("s1")
    assert opened(again).ledger.measures(["s1"]) == source.ledger.measures(["s1"]) != []


@pytest.mark.parametrize("kind", ["new_place", "new_file"])
def test_two_processes_that_write_at_once_lose_nothing(kind, request, opened, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    place = request.getfixturevalue(kind)()
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_sweep, args=(place, name, 20)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = opened(place, create=False)
    for name in ("one", "two"):
        assert [trial.round for trial in store.trials(name)] == list(range(20))
        assert len({number for _, _, number, _, _ in store.ledger.measures([name])}) == 20


def test_a_sweep_is_run_reported_and_merged(harness, new_place, new_file):
    place, copy = new_place(), new_file()
    harness.lean_sweep("--backends", "single", "--workloads", "synthetic", "--steps", "3", "--store", place)
    reported = harness.run("report", "--store", place, "--json")
    assert reported.returncode == 0, reported.stderr
    (cell,) = json.loads(reported.stdout)["cells"]
    assert cell["trials"] == 1
    assert merge(place, copy).trials == 1
    merged = harness.run("merge", copy, f"--store={place}")
    assert merged.stdout == "merged: nothing, all of it is here\n"
    secret = quote(PASSWORD, safe="")
    for said in (reported, merged):
        assert secret not in said.stdout + said.stderr
    for written in Path(harness.folder).rglob("*"):
        assert written.is_dir() or secret.encode() not in written.read_bytes(), written


def test_what_a_server_refuses_is_one_line(server, new_schema):
    ours, theirs = new_schema(), new_schema()
    open_store(server.url(ours), create=True).close()
    server.do(f"create table {theirs}.customers (name text)")
    with closing(socket.socket()) as asked:
        asked.bind(("127.0.0.1", 0))
        silent = server.url(ours).replace(str(server.port), str(asked.getsockname()[1]))
    for place, said in {
        server.url(ours, database="nowhere"): 'database "nowhere" does not exist); create it',
        server.url(ours, password="wrong"): 'password authentication failed for user "harness"); correct user and',
        server.url(ours, "stranger"): 'password authentication failed for user "stranger"); correct user and',
        server.url(ours, "guest", "guest"): "permission denied for table scaling_harness_about); ask the owner",
        server.url(new_schema(), "guest", "guest"): "permission denied for schema results",
        server.url("nothing"): "no schema has been selected to create in",
        silent: "Connection refused); start the server, or correct host and port",
        server.url(theirs): "holds other tables (customers)",
    }.items():
        with pytest.raises(StoreError) as told:
            open_store(place, create=True)
        assert said in str(told.value)
        assert str(told.value).startswith("store postgresql+psycopg://")
        assert str(told.value).isprintable()
        assert PASSWORD not in str(told.value)
        assert quote(PASSWORD, safe="") not in str(told.value)


def test_a_role_that_may_only_read_reports_but_does_not_sweep(server, new_schema, opened):
    name = new_schema()
    begin(opened(server.url(name)))
    server.do(f"grant select on all tables in schema {name} to guest")
    reader = server.url(name, "guest", "guest")
    assert opened(reader, create=False).sweep_ids() == ["s1"]
    with pytest.raises(StoreError, match=r"permission denied.*; ask the owner of its tables for the privilege"):
        check_store(reader)


def test_a_server_that_dropped_its_connections_is_met_again(server, new_place, opened):
    store = opened(new_place())
    begin(store)
    server.do(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        " and backend_type = 'client backend'"
    )
    store.add_trial("s1", make_trial(make_case()))
    assert len(store.trials("s1")) == 1


def test_a_server_that_restarts_for_a_while_is_waited_for(server, new_place, opened):
    store = opened(new_place())
    begin(store)
    first, second = (make_trial(make_case(), number) for number in range(2))
    store.add_trial("s1", first)
    server.stop(signal.SIGINT)
    store.database.patience.limit_s = 0.0
    with pytest.raises(StoreError, match="start the server"):
        store.add_trial("s1", second)
    starter = threading.Timer(2.0, server.start)
    starter.start()
    with store.patient():
        store.add_trial("s1", second)
    starter.join()
    assert store.trials("s1") == [first, second]


def test_a_table_that_somebody_locks_is_waited_for(server, new_schema, opened):
    schema = new_schema()
    store = opened(server.url(schema))
    begin(store)
    engine = sa.create_engine(server.url(schema))
    trial = make_trial(make_case())
    with engine.connect() as other:
        other.exec_driver_sql("lock table trials in access exclusive mode")
        # As the limit on each statement of ours, in a tenth of its time.
        sa.event.listen(store.database.engine, "begin", lambda c: c.exec_driver_sql("set statement_timeout = 600"))
        release = threading.Timer(2.0, other.rollback)
        release.start()
        with store.patient():
            store.add_trial("s1", trial)
        release.join()
    engine.dispose()
    assert store.trials("s1") == [trial]
