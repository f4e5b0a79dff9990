"""`check` of a store of 3,000 nights × 50 cells × 4 metrics × 5 trials, and what it reads of them: the newest 60."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench.core.case import Case
from harness.planning.environment import read_environment
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from harness.store.tables import (
    cells_table,
    environments_table,
    measures_table,
    nights_table,
    sweeps_table,
    trials_table,
)
from reports.analysis.trial_measures import settings_of
from tests.perf.whole_command import harness

NIGHTS, LAST, TRIALS = 3000, 60, 5
FIRST = datetime(2017, 1, 1, tzinfo=UTC)
NAMES = ("step_s", "rate", "memory_bytes", "exposed_s")
CASES = [
    Case(workload="synthetic", workload_options={"width": width}, backend=backend, transport="gloo", ranks=2, batch=120)
    for width in range(1, 26)
    for backend in ("ddp", "horovod")
]
KEYS = [case.key for case in CASES]
SUITE, PLAN = Suite(name="nightly"), Plan(cases=tuple(CASES), skips=(), not_applicable=(), repeats=TRIALS)
LIMIT_S, LIMIT_BYTES = 10.0, 500 * 2**20


def make_store(place: Path) -> None:
    """Rows as a sweep leaves them, but for the trials' bodies, which are not read. The numbers of the newest nights
    are made one by one; those before repeat them."""
    store, here, chance = open_store(str(place), create=True), read_environment(), random.Random(0)
    settings = json.dumps(settings_of(CASES[0]))
    with store.database.writing("") as connection:
        connection.execute(environments_table.insert().values(id=here.id, body=here.model_dump_json()))
        for number in reversed(range(NIGHTS)):
            name, at = f"{number:04d}", (FIRST + timedelta(days=number)).isoformat()
            info = SweepInfo(id=name, started_at=at, command="", suite=SUITE, plan=PLAN, environment=here)
            body = info.model_dump_json(exclude={"finished_at"}) if number == NIGHTS - 1 else "{}"
            connection.execute(
                sweeps_table.insert().values(id=name, started_at=at, finished_at=at, environment=here.id, body=body)
            )
            connection.execute(nights_table.insert().values(sweep=name, suite="nightly"))
            if number < NIGHTS - LAST:
                _repeat(connection, f"{number % LAST + NIGHTS - LAST:04d}", name)
                continue
            connection.execute(
                cells_table.insert(), [{"sweep": name, "key": key, "settings": settings} for key in KEYS]
            )
            rows = [{"sweep": name, "key": key, "round": trial} for key in KEYS for trial in range(TRIALS)]
            connection.execute(trials_table.insert(), [row | {"outcome": "ok", "body": "{}"} for row in rows])
            measured = [
                row | {"name": what, "value": math.exp(chance.gauss(0, 0.02))} for row in rows for what in NAMES
            ]
            connection.execute(measures_table.insert(), measured)
    store.close()


def _repeat(connection: sa.Connection, of: str, name: str) -> None:
    """Rows of one night as those of another."""
    for table in (cells_table, trials_table, measures_table):
        columns = [column for column in table.columns if column.name != "sweep"]
        rows = sa.select(sa.literal(name), *columns).where(table.c.sweep == of)
        connection.execute(table.insert().from_select(["sweep", *(column.name for column in columns)], rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = tmp_path_factory.mktemp("nights") / "results.sqlite"
    make_store(made)
    return made


def read(store: Store) -> int:
    ledger = store.ledger
    sweeps = [night.id for night in ledger.nights(suite="nightly", last=LAST)]
    found = ledger.measures(sweeps)
    ledger.settings(sweeps), ledger.environments(), ledger.statuses(sweeps), ledger.outcomes(sweeps[-1])
    return len(found)


def test_what_a_check_reads_of_thousands_of_nights(benchmark, tell, place):
    def opened() -> tuple[tuple[Store], dict]:
        return (open_store(str(place), create=False, upgrade=True),), {}

    rows = benchmark.pedantic(read, setup=opened, rounds=5)
    assert rows == LAST * len(CASES) * TRIALS * len(NAMES)
    took_s = benchmark.stats.stats.median
    benchmark.extra_info |= {"store_bytes": place.stat().st_size}
    tell(
        f"{rows:,} numbers of {LAST} of {NIGHTS:,} nights: median {took_s:.2f} s; the file without trials' bodies "
        f"{place.stat().st_size / 2**20:.0f} MiB"
    )


def test_a_store_of_thousands_of_nights_is_checked(benchmark, tell, goal, place):
    peaks: list[int] = []

    def check() -> None:
        ran = harness("check", "--store", str(place), "--json")
        assert ran.status in (0, 3)
        assert len({one["name"] for one in json.loads(ran.said)["verdicts"]}) == len(CASES)
        peaks.append(ran.peak_bytes)

    benchmark.pedantic(check, rounds=5, iterations=1)
    benchmark.extra_info |= {"peak_bytes": max(peaks)}
    tell(
        f"the whole command, {NIGHTS:,} nights × {len(CASES) * len(NAMES)} series: median "
        f"{benchmark.stats.stats.median:.2f} s, fastest {benchmark.stats.stats.min:.2f} s, "
        f"peak {max(peaks) / 2**20:.0f} MiB"
    )
    what = f"check of {NIGHTS:,} nights × {len(CASES) * len(NAMES)} series"
    goal(f"{what}, s", benchmark.stats.stats.data, at_most=LIMIT_S)
    goal(f"{what}, MiB", [peak / 2**20 for peak in peaks], at_most=LIMIT_BYTES / 2**20)
