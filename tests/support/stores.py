"""Stores to test with: sweeps in them, and one as the first version wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.store.database import Database
from harness.store.labels import NO_LABELS, SweepLabels
from harness.store.ledger import IngestedRun, PairTrial
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from tests.support.builders import make_case, make_trial
from tests.support.stored_once import this_environment

FIRST_NIGHT = "2026-01-01T00:00:00+00:00"
FORMAT_1 = (
    'create table scaling_harness_about ("only" integer primary key, format integer not null)',
    "create table environments (id varchar primary key, body text not null)",
    "create table sweeps (id varchar primary key, started_at varchar not null, finished_at varchar,"
    " environment varchar not null references environments (id), body text not null)",
    "create table trials (sweep varchar references sweeps (id), key varchar, round integer, outcome varchar not null,"
    " body text not null, primary key (sweep, key, round))",
    "insert into scaling_harness_about values (1, 1)",
)


def begin(
    store: Store,
    name: str = "s1",
    started_at: str = FIRST_NIGHT,
    suite: str = "quick",
    labels: SweepLabels = NO_LABELS,
    plan: Plan | None = None,
) -> SweepInfo:
    info = SweepInfo(
        id=name,
        started_at=started_at,
        command="python -m harness sweep",
        suite=Suite(name=suite),
        plan=plan or Plan(cases=(make_case(),), skips=(), not_applicable=(), repeats=1),
        environment=this_environment(),
        **dict(labels),
    )
    store.begin_sweep(info)
    return info


def disk_bytes(database: Database) -> int:
    """What the tables take on the disk."""
    if database.engine.dialect.name == "sqlite":
        return Path(str(database.engine.url.database).removeprefix("file:").split("?")[0]).stat().st_size
    size = sa.text(
        "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and relnamespace = "
        "current_schema()::regnamespace"
    )
    with database.reading() as connection:
        return int(connection.execute(size).scalar_one())


def write_sweep(place: str, name: str, trials: int) -> None:
    """As one of several that write at once do."""
    store = open_store(place, create=True)
    begin(store, name)
    for number in range(trials):
        store.add_trial(name, make_trial(make_case(), number))
    store.close()


def make_format_1(place: str, *trials) -> None:
    """A store as the first version wrote it, with one sweep."""
    engine = sa.create_engine(place if "://" in place else f"sqlite:///{place}")
    here = this_environment()
    plan = Plan(cases=(make_case(),), skips=(), not_applicable=(), repeats=1)
    info = SweepInfo(id="s1", started_at=FIRST_NIGHT, command="", suite=Suite(name="old"), plan=plan, environment=here)
    with engine.begin() as connection:
        for statement in FORMAT_1:
            connection.exec_driver_sql(statement)
        add = sa.text("insert into environments values (:id, :body)")
        connection.execute(add, {"id": here.id, "body": here.model_dump_json()})
        add = sa.text("insert into sweeps values (:id, :started_at, null, :environment, :body)")
        connection.execute(
            add,
            {
                "id": info.id,
                "started_at": info.started_at,
                "environment": here.id,
                "body": info.model_dump_json(exclude={"finished_at"}),
            },
        )
        for trial in trials:
            add = sa.text("insert into trials values ('s1', :key, :round, :outcome, :body)")
            connection.execute(
                add,
                {
                    "key": trial.case.key,
                    "round": trial.round,
                    "outcome": trial.outcome,
                    "body": trial.model_dump_json(),
                },
            )
    engine.dispose()


def pair(number: int, side: str) -> PairTrial:
    trial = make_trial(make_case(), number)
    return PairTrial(sweep="s1", key=trial.case.key, pair=number, side=side, commit=side, trial=trial)


def run(name: str, night: str = "n1", at: str = "2026-01-01", benchmark: str = "b") -> IngestedRun:
    return IngestedRun(
        night=night,
        benchmark=benchmark,
        run=name,
        at=at,
        commit=None,
        place={"cpu": "x"},
        seconds=(0.1, 0.2),
        source="a.json",
    )


@pytest.fixture
def opened():
    """``opened(place)``: a store that is closed after the test."""
    stores = []

    def open_one(place: str, *, create: bool = True, upgrade: bool = False) -> Store:
        stores.append(open_store(place, create=create, upgrade=upgrade))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()
