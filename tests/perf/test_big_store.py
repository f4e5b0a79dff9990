"""The report of a large store: 1,000 cases of 5 trials, each with 200 steps of every rank and its telemetry.

What it takes is measured of the whole command, start-up included.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
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

WIDTHS, BACKENDS, RANKS, TRIALS = 125, ("ddp", "horovod"), (1, 2, 3, 4), 5
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
LIMIT_S, LIMIT_BYTES = 10, 2**30


def trials(environment: str) -> Iterator[Trial]:
    """Amdahl's law with a serial share of a tenth; steps that scatter by a twentieth."""
    chance = random.Random(0)
    for case in CASES:
        step_s = 0.01 * (0.1 + 0.9 / case.ranks)
        for number in range(TRIALS):
            yield _trial(case, number, step_s * chance.gauss(1, 0.01), environment, chance)


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
    store = open_store(str(place), create=True)
    store.begin_sweep(info)
    for trial in trials(environment.id):
        store.add_trial(info.id, trial)
    store.finish_sweep(info.id, "2026-01-01T01:00:00+00:00")
    store.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("big") / "results.sqlite"
    make_store(place)
    return place


def test_the_report_of_a_thousand_cases(benchmark, tell, store, tmp_path):
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "harness", "report", "--store", str(store), "--out", str(page), "--json"]
    peaks: list[int] = []
    cpu_s: list[float] = []

    def report() -> None:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(used.ru_maxrss * 1024)
        cpu_s.append(used.ru_utime + used.ru_stime)

    benchmark.pedantic(report, rounds=3, iterations=1)
    took_s = benchmark.stats.stats.median
    benchmark.extra_info |= {"cpu_s": cpu_s, "peak_bytes": max(peaks), "page_bytes": page.stat().st_size}
    tell(
        f"{len(CASES)} cases × {TRIALS} trials × {STEPS} steps: median {took_s:.1f} s (goal {LIMIT_S}), "
        f"{min(cpu_s):.1f} s of processor time at least, peak "
        f"{max(peaks) / 2**20:.0f} MiB (goal {LIMIT_BYTES / 2**20:.0f}), page {page.stat().st_size / 2**20:.1f} MiB"
    )
