"""`check` of anyone's history: 1,000 nights of 50 benchmarks, 5 runs of 20 samples a night, some 240 MB of text.

What it takes is measured of the whole command: a process of its own, with Python's start and all imports.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.perf.whole_command import harness

NIGHTS, BENCHMARKS, RUNS, SAMPLES = 1000, 50, 5, 20
FIRST = date(2023, 1, 1)
VALUES = 10_007
GOAL_S, GOAL_BYTES = 3.0, 500 * 2**20


def write(path: Path, nights: Sequence[int], order: np.ndarray) -> Path:
    """Seconds repeat after ``VALUES`` rows: what they are does not matter here, how they are written does."""
    labels = [(FIRST + timedelta(number)).isoformat() for number in nights]
    tails = [
        f",bench_{benchmark:02d}_ddp_x4,{run},{sample},"
        for benchmark in range(BENCHMARKS)
        for run in range(RUNS)
        for sample in range(SAMPLES)
    ]
    seconds = [f"{value!r}\n" for value in np.exp(np.random.default_rng(0).normal(-4, 0.03, VALUES)).tolist()]
    with path.open("w") as file:
        file.write("night,benchmark,run,sample,seconds\n")
        for rows in np.array_split(order, max(1, len(order) // 100_000)):
            file.writelines(labels[row // len(tails)] + tails[row % len(tails)] + seconds[row % VALUES] for row in rows)
    return path


@pytest.fixture(scope="module", params=["as it grew", "shuffled", "30 nights"])
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    nights = 30 if request.param == "30 nights" else NIGHTS
    rows = np.arange(nights * BENCHMARKS * RUNS * SAMPLES)
    if request.param == "shuffled":
        rows = np.random.default_rng(1).permutation(rows)
    tonight = write(folder / "C.csv", [nights], np.arange(BENCHMARKS * RUNS * SAMPLES))
    return request.param, write(folder / "H.csv", range(nights), rows), tonight


def test_a_long_history_is_checked(benchmark, tell, goal, files):
    how, history, current = files
    peaks: list[int] = []
    cpu_s: list[float] = []

    def check() -> None:
        ran = harness("check", "--history", history, "--current", current, "--json")
        assert ran.status in (0, 3)
        assert len(json.loads(ran.said)["benchmarks"]) == BENCHMARKS
        peaks.append(ran.peak_bytes)
        cpu_s.append(ran.cpu_s)

    benchmark.pedantic(check, rounds=5, iterations=1)
    benchmark.extra_info |= {"cpu_s": cpu_s, "peak_bytes": max(peaks), "file_bytes": history.stat().st_size}
    tell(
        f"{history.stat().st_size / 1e6:.0f} MB, {how}: median {benchmark.stats.stats.median:.2f} s, fastest "
        f"{benchmark.stats.stats.min:.2f} s, {min(cpu_s):.2f} s of processor time at least, peak "
        f"{max(peaks) / 2**20:.0f} MiB"
    )
    what = f"check of a file of 1,000 nights, {how}" if how != "30 nights" else "check of a file of 30 nights"
    goal(f"{what}, s", benchmark.stats.stats.data, at_most=GOAL_S)
    goal(f"{what}, MiB", [peak / 2**20 for peak in peaks], at_most=GOAL_BYTES / 2**20)
