"""`report --index` of 1,000 nights of 24 cells whose reports are in the folder: from what the store keeps of each."""

from __future__ import annotations

import json
import math
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.planning.environment import read_environment
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.publish.index import write_index
from harness.reporting.night import report_name
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from harness.store.summaries import keep_nights, read_night_cells, read_nights
from harness.store.tables import environments_table, nights_table, sweeps_table, trials_table
from reports.analysis.comparison import Night
from tests.perf.whole_command import Ran, harness
from tests.support.builders import make_case, make_trial

NIGHTS, TRIALS = 1000, 5
LIMIT_S, LIMIT_BYTES = 2.0, 1e6
CASES = [
    make_case(workload=workload, backend=backend, transport="gloo", ranks=ranks)
    for workload in ("synthetic", "mnist")
    for backend in ("ddp", "horovod", "dask")
    for ranks in (1, 2, 3, 4)
]
FIRST = datetime(2023, 1, 1, tzinfo=UTC)


def info_of(number: int) -> SweepInfo:
    plan = Plan(cases=tuple(CASES), skips=(), not_applicable=(), repeats=TRIALS)
    at = (FIRST + timedelta(days=number)).isoformat()
    return SweepInfo(
        id=f"{number:04d}",
        started_at=at,
        finished_at=at,
        command="python -m harness sweep",
        suite=Suite(name="nightly"),
        plan=plan,
        environment=read_environment(),
    )


def measured_night(store: Store, place: Path, folder: Path, info: SweepInfo) -> Night:
    """The oldest night, made of its trials."""
    store.begin_sweep(info)
    for case in CASES:
        for number in range(TRIALS):
            store.add_trial(info.id, make_trial(case, number, 0.1 / case.ranks * (1 + 0.01 * number)))
    store.finish_sweep(info.id, info.started_at)
    write_index([], str(place), folder)
    return read_night_cells(store, list(read_nights(store).values()))[0]


def with_noise(night: Night, info: SweepInfo, chance: random.Random) -> Night:
    cells = []
    for cell in night.cells:
        factor = math.exp(chance.gauss(0, 0.02))
        changes = {"rates": tuple(rate * factor for rate in cell.rates)}
        if cell.throughput is not None:
            values = cell.throughput.model_dump(include={"value", "low", "high"})
            scaled = {name: value and value * factor for name, value in values.items()}
            changes["throughput"] = cell.throughput.model_copy(update=scaled)
        cells.append(cell.model_copy(update=changes))
    fields = {"sweep": info.id, "href": report_name(info.id), "started_at": info.started_at, "cells": tuple(cells)}
    return night.model_copy(update=fields)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nights")
    place, pages, chance = folder / "results.sqlite", folder / "pages", random.Random(0)
    with closing(open_store(str(place), create=True)) as store:
        first = measured_night(store, place, pages, info_of(0))
        infos = [info_of(number) for number in range(1, NIGHTS)]
        trials = [{"key": case.key, "round": number} for case in CASES for number in range(TRIALS)]
        with store.database.writing("") as connection:
            assert connection.execute(environments_table.select()).all()
            for info in infos:
                columns = {"id": info.id, "started_at": info.started_at, "finished_at": info.finished_at}
                body = info.model_dump_json(exclude={"finished_at", "title", "note", "tags"})
                connection.execute(sweeps_table.insert().values(**columns, environment=info.environment.id, body=body))
                connection.execute(nights_table.insert().values(sweep=info.id, suite="nightly"))
                rows = [{**row, "sweep": info.id, "outcome": "ok", "body": "{}"} for row in trials]
                connection.execute(trials_table.insert(), rows)
    keep_nights(str(place), [(with_noise(first, info, chance), len(trials)) for info in infos])
    report = (pages / report_name("0000")).read_bytes()
    for info in infos:
        (pages / report_name(info.id)).write_bytes(report[:2000])
    return place


def test_the_index_of_a_thousand_nights(benchmark, tell, goal, place):
    ran: list[Ran] = []

    def index() -> None:
        ran.append(harness("report", "--store", place, "--index", place.parent / "pages", "--json"))
        assert ran[-1].status == 0
        assert len(json.loads(ran[-1].said)["sweeps"]) == NIGHTS

    benchmark.pedantic(index, rounds=5, iterations=1)
    page_bytes = (place.parent / "pages" / "index.html").stat().st_size
    benchmark.extra_info |= {"cpu_s": [one.cpu_s for one in ran], "page_bytes": page_bytes}
    tell(
        f"{NIGHTS:,} nights × {len(CASES)} cells: median {benchmark.stats.stats.median:.2f} s, fastest "
        f"{benchmark.stats.stats.min:.2f} s, {min(one.cpu_s for one in ran):.2f} s of processor "
        f"time at least, peak {max(one.peak_bytes for one in ran) / 2**20:.0f} MiB, page {page_bytes / 1e6:.2f} MB"
    )
    what = f"index of {NIGHTS:,} nights"
    goal(f"{what}, s", benchmark.stats.stats.data, at_most=LIMIT_S)
    goal(f"{what}, page in MB", [page_bytes / 1e6], at_most=LIMIT_BYTES / 1e6)
