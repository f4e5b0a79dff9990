"""The report of a large store: 10,000 cases of 5 trials, each with 200 steps of every rank and its telemetry.

What it takes is measured of the whole command, start-up included: once where the store keeps no summaries yet, as
those of before the format 4, and then where it does, as a sweep leaves it. ``SCALING_PERF_WIDTHS=125`` is a tenth of
the cases.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from pathlib import Path

import pytest

from bench.core.case import Case
from bench.core.records import RankRecord, Trial, Window
from bench.core.same_work import SameWork, Tolerance, WorkProof
from bench.core.step_measures import PhaseTimes
from bench.core.telemetry import HOST, Device, NodeTelemetry, Series
from harness.planning.environment import read_environment
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from harness.store.tables import cells_table, measures_table, trials_table
from reports.analysis.trial_measures import stored_measures, trial_settings
from tests.perf.whole_command import Ran, harness
from tests.support.chromium import chromium

WIDTHS = int(os.environ.get("SCALING_PERF_WIDTHS", "1250"))
BACKENDS, RANKS, TRIALS = ("ddp", "horovod"), (1, 2, 3, 4), 5
STEPS, BLOCK_STEPS, VERIFIED, SAMPLES, INTERVAL_S = 200, 40, 4, 7, 0.2
PARTS = {"data": 0.05, "forward": 0.25, "backward": 0.4, "optimizer": 0.1}
COUNTERS = ("cpu_busy_s", "job_cpu_s", "cpu_steal_s", "network_bytes", "loopback_bytes", "swapped_bytes")
CASES = [
    Case(
        workload="synthetic",
        workload_options={"width": width},
        backend=backend,
        transport="gloo",
        ranks=ranks,
        batch=120,
    )
    for width in range(1, WIDTHS + 1)
    for backend in BACKENDS
    for ranks in RANKS
]
TOLERANCE = Tolerance(value=1e-3, label="float32")
LIMIT_S, LIMIT_BYTES, LIMIT_PAGE_BYTES, LIMIT_TASK_S = 20, 2**30, 3e6, 2.0
POOL = 50
"""Different trials of each rank count: the cases take turns with them."""


def bodies(environment: str) -> dict[int, list[tuple[str, dict[str, float], dict[str, str]]]]:
    """By rank count: records without their case and round, their measures and their settings. Amdahl's law with a
    serial share of a tenth; steps that scatter by a twentieth."""
    chance = random.Random(0)
    pool: dict[int, list[tuple[str, dict[str, float], dict[str, str]]]] = {}
    for case in CASES[: len(RANKS)]:
        step_s = 0.01 * (0.1 + 0.9 / case.ranks)
        head = f'{{"case":{case.model_dump_json()},"round":0,'
        made = [_trial(case, 0, step_s * chance.gauss(1, 0.01), environment, chance) for _ in range(POOL)]
        pool[case.ranks] = [
            (trial.model_dump_json().removeprefix(head), stored_measures(trial), trial_settings(trial))
            for trial in made
        ]
    return pool


def _trial(case: Case, number: int, step_s: float, environment: str, chance: random.Random) -> Trial:
    ranks = tuple(_record(case, rank, step_s, chance) for rank in range(case.ranks))
    window = ranks[0].window
    assert window is not None
    return Trial(
        case=case,
        round=number,
        outcome="ok",
        ranks=ranks,
        environment=environment,
        wall_s=5.0,
        started_at="2026-01-01T00:00:00+00:00",
        telemetry=(_telemetry(window, chance),),
        same_work=SameWork(verdict="same", deviation=4e-7, tolerance=TOLERANCE.value, label=TOLERANCE.label),
    )


def _record(case: Case, rank: int, step_s: float, chance: random.Random) -> RankRecord:
    def times(mean_s: float, count: int) -> tuple[float, ...]:
        return tuple(mean_s * math.exp(chance.gauss(0, 0.05)) for _ in range(count))

    steps = times(step_s, STEPS)
    share = case.batch // case.ranks
    proof = WorkProof(
        samples=tuple(tuple(range(share)) for _ in range(VERIFIED)),
        losses=(2.3,) * VERIFIED,
        digest="a" * 64,
        tolerance=TOLERANCE,
    )
    phases = PhaseTimes(
        together_s=times(step_s, BLOCK_STEPS),
        alone_s={part: times(portion * step_s, BLOCK_STEPS) for part, portion in PARTS.items()},
        digest="b" * 64,
    )
    return RankRecord(
        rank=rank,
        world=case.ranks,
        host="node-0",
        pid=1000 + rank,
        device="cpu",
        kind="training",
        unit="samples",
        amount_per_step=case.batch,
        step_s=steps,
        warmup_steps=10,
        settled=True,
        startup_s=1.0,
        cores=(rank,),
        window=Window(began_s=100.0, ended_s=100.0 + sum(steps), cpu_s=sum(steps)),
        memory_peak_bytes=400 * 2**20,
        proof=proof,
        phases=phases,
        final_digest="c" * 64,
        settings={"threads": "1", "torch": "2.13.0"},
    )


def _telemetry(window: Window, chance: random.Random) -> NodeTelemetry:
    """One sample before the window, one after."""
    length_s = window.ended_s - window.began_s
    gap_s = min(INTERVAL_S, length_s / (SAMPLES - 2))
    times = tuple(window.began_s + gap_s * (number - 0.5) for number in range(SAMPLES))
    counters = (
        Series(
            device=HOST,
            name=name,
            times_s=times,
            values=tuple(1000.0 * number + chance.random() for number in range(SAMPLES)),
        )
        for name in COUNTERS
    )
    unknown = (
        Series(device=HOST, name=name, times_s=times, values=(None,) * SAMPLES, reason="not told by this machine")
        for name in ("cpu_frequency_hz", "cpu_energy_j")
    )
    return NodeTelemetry(
        host="node-0",
        source="live",
        interval_s=INTERVAL_S,
        began_s=window.began_s,
        ended_s=window.ended_s,
        devices=(Device(id=HOST, name="node-0"),),
        series=(*counters, *unknown),
    )


def make_store(place: Path) -> None:
    environment = read_environment()
    plan = Plan(cases=tuple(CASES), skips=(), not_applicable=(), repeats=TRIALS)
    suite = Suite(name="big", backends=BACKENDS, workloads=("synthetic",), ranks=RANKS, repeats=TRIALS)
    info = SweepInfo(
        id="big",
        started_at="2026-01-01T00:00:00+00:00",
        command="python -m harness sweep",
        suite=suite,
        plan=plan,
        environment=environment,
    )
    chance, pool = random.Random(1), bodies(environment.id)
    store = open_store(str(place), create=True)
    store.begin_sweep(info)
    with store.database.writing("") as connection:
        for case in CASES:
            text, trials, measures = case.model_dump_json(), [], []
            for number in range(TRIALS):
                body, values, settings = chance.choice(pool[case.ranks])
                row = {"sweep": info.id, "key": case.key, "round": number}
                trials.append({**row, "outcome": "ok", "body": f'{{"case":{text},"round":{number},{body}'})
                measures += [{**row, "name": name, "value": value} for name, value in values.items()]
            cell = {"sweep": info.id, "key": case.key, "settings": json.dumps(settings)}
            connection.execute(cells_table.insert(), [cell])
            connection.execute(trials_table.insert(), trials)
            connection.execute(measures_table.insert(), measures)
    store.finish_sweep(info.id, "2026-01-01T01:00:00+00:00")
    store.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("big") / "results.sqlite"
    make_store(place)
    return place


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "page.html"


def test_the_report_of_thousands_of_cases(benchmark, tell, goal, store, page):
    ran: list[Ran] = []

    def report() -> None:
        ran.append(harness("report", "--store", store, "--out", page, "--json"))
        assert ran[-1].status == 0
        assert len(json.loads(ran[-1].said)["cells"]) == len(CASES)

    began_s = time.perf_counter()
    report()
    first_s = time.perf_counter() - began_s
    benchmark.pedantic(report, rounds=2, iterations=1)
    took_s, peak_bytes = benchmark.stats.stats.median, max(one.peak_bytes for one in ran)
    benchmark.extra_info |= {"cpu_s": [one.cpu_s for one in ran], "first_s": first_s, "peak_bytes": peak_bytes}
    tell(
        f"{len(CASES):,} cases × {TRIALS} trials × {STEPS} steps: from kept summaries median {took_s:.1f} s, "
        f"{took_s / first_s:.2f} of the first report, which makes them ({first_s:.1f} s); processor time "
        f"{', '.join(f'{one.cpu_s:.1f}' for one in ran)} s, peaks "
        f"{', '.join(f'{one.peak_bytes / 2**20:.0f}' for one in ran)} MiB, page "
        f"{page.stat().st_size / 1e6:.2f} MB"
    )
    what = f"report of {len(CASES):,} cases × {TRIALS} trials × {STEPS} steps"
    goal(f"{what}, s", benchmark.stats.stats.data, at_most=LIMIT_S)
    goal(f"{what}, MiB", [one.peak_bytes / 2**20 for one in ran[1:]], at_most=LIMIT_BYTES / 2**20)
    goal(f"{what}, page in MB", [page.stat().st_size / 1e6], at_most=LIMIT_PAGE_BYTES / 1e6)


def test_its_trials_are_exported(benchmark, tell, store, tmp_path):
    """All trials are read whole; how many of them are in memory together shows in the peak."""
    ran: list[Ran] = []

    def export() -> None:
        ran.append(harness("export", "--store", store, "--out", tmp_path / "trials.csv"))
        assert ran[-1].status == 0

    benchmark.pedantic(export, rounds=1, iterations=1)
    with (tmp_path / "trials.csv").open() as lines:
        assert sum(1 for _ in lines) == len(CASES) * TRIALS + 1
    tell(
        f"{len(CASES) * TRIALS:,} trials as CSV: {ran[0].cpu_s:.1f} s of processor time, peak "
        f"{ran[0].peak_bytes / 2**20:.0f} MiB"
    )


def test_the_page_of_thousands_of_cases_is_opened(benchmark, goal, page, tmp_path):
    """How long the browser's main thread is busy until nothing is left to do."""
    tasks_s: list[float] = []
    with chromium(tmp_path) as browser:
        browser.width(1400)

        def opened() -> None:
            browser.driver.get("about:blank")
            browser.send("Performance.enable", {"timeDomain": "threadTicks"})
            browser.driver.get(f"file://{page}?{len(tasks_s)}")
            browser.until("document.readyState === 'complete'")
            browser.driver.execute_async_script("requestIdleCallback(() => setTimeout(arguments[0], 500))")
            metrics = browser.send("Performance.getMetrics", {})["metrics"]
            browser.send("Performance.disable", {})
            tasks_s.append(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

        benchmark.pedantic(opened, rounds=5, iterations=1)
    goal("main thread until that page is idle, s", tasks_s, at_most=LIMIT_TASK_S)
