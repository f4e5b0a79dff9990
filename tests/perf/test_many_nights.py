"""What a check reads of a long history: 60 of 1,000 nights × 50 cells × 5 trials, from a file."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench.case import Case
from harness.environment import read_environment
from harness.opening import open_store
from harness.store import Store
from harness.tables import cells_table, environments_table, measures_table, nights_table, sweeps_table, trials_table
from reports.verdicts.measures import settings_of

NIGHTS, LAST, TRIALS = 1000, 60, 5
NAMES = ("step_s", "rate", "memory_bytes", "exposed_s")
CASES = [
    Case(workload="synthetic", workload_options={"width": width}, backend=backend, transport="gloo", ranks=2, batch=120)
    for width in range(1, 26)
    for backend in ("ddp", "horovod")
]
KEYS = [case.key for case in CASES]
LIMIT_S, LIMIT_BYTES = 1.2, 500 * 2**20
READER = """
import resource, sys
from harness.opening import open_store
ledger = open_store(sys.argv[1], create=False, upgrade=True).ledger
sweeps = [night.id for night in ledger.nights(last=int(sys.argv[2]))]
ledger.measures(sweeps), ledger.settings(sweeps), ledger.environments(), ledger.statuses(sweeps)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def make_store(place: Path) -> None:
    """Rows as a sweep leaves them, but for the trials' bodies, which are not read."""
    store, here, chance = open_store(str(place), create=True), read_environment(), random.Random(0)
    settings = json.dumps(settings_of(CASES[0]))
    with store.database.writing("") as connection:
        connection.execute(environments_table.insert().values(id=here.id, body=here.model_dump_json()))
        for number in range(NIGHTS):
            name = f"{number:04d}"
            connection.execute(sweeps_table.insert().values(id=name, started_at=name, finished_at=name,
                                                            environment=here.id, body="{}"))  # fmt: skip
            connection.execute(nights_table.insert().values(sweep=name, suite="nightly"))
            connection.execute(
                cells_table.insert(), [{"sweep": name, "key": key, "settings": settings} for key in KEYS]
            )
            rows = [{"sweep": name, "key": key, "round": trial} for key in KEYS for trial in range(TRIALS)]
            connection.execute(trials_table.insert(), [row | {"outcome": "ok", "body": "{}"} for row in rows])
            measured = [row | {"name": what, "value": chance.random()} for row in rows for what in NAMES]
            connection.execute(measures_table.insert(), measured)
    store.close()


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


def test_what_a_check_reads_of_a_thousand_nights(benchmark, tell, place):
    def opened() -> tuple[tuple[Store], dict]:
        return (open_store(str(place), create=False, upgrade=True),), {}

    rows = benchmark.pedantic(read, setup=opened, rounds=5)
    assert rows == LAST * len(CASES) * TRIALS * len(NAMES)
    peaks = {
        count: int(subprocess.run([sys.executable, "-c", READER, str(place), str(count)], check=True,
                                  capture_output=True, text=True).stdout)
        for count in (LAST, NIGHTS)
    }  # fmt: skip
    took_s = benchmark.stats.stats.median
    benchmark.extra_info |= {"peaks": peaks, "store_bytes": place.stat().st_size}
    tell(
        f"{rows:,} numbers of {LAST} of {NIGHTS:,} nights: median {took_s:.2f} s (goal {LIMIT_S}); peak of a process "
        f"that reads {LAST} nights {peaks[LAST] / 2**20:.0f} MiB, all {peaks[NIGHTS] / 2**20:.0f} MiB (goal "
        f"{LIMIT_BYTES / 2**20:.0f}); the file without trials' bodies {place.stat().st_size / 2**20:.0f} MiB"
    )
