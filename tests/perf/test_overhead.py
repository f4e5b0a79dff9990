"""What the harness costs while it measures: in throughput, and in processor time of its own process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from bench.core.case import Case
from bench.plugins import registry
from bench.rank.progress import read_progress
from harness.sites.local.site import SITE
from harness.sweep.runner import run_trial
from reports.analysis import formatting
from reports.analysis.stats import estimate
from reports.analysis.trial_measures import overhead_ratio
from tests.perf.conftest import spread

TRIALS, BATCH, RANKS = 24, 128, 2
COST_GOAL, SHARE_GOAL = 0.5, 2
"""Percent: of throughput, and of one core."""
SWEEPS, WINDOW_S, WATCHED_S = 3, 15, 10
LONGEST_START_S = 60


@pytest.mark.parametrize(
    ("backend", "transport", "ranks"), [("single", "none", 1), ("ddp", "gloo", RANKS), ("horovod", "gloo", RANKS)]
)
def test_throughput_with_timing_and_sampling(benchmark, tell, goal, tmp_path, backend, transport, ranks):
    case = Case(
        workload="synthetic",
        backend=backend,
        transport=transport,
        ranks=ranks,
        batch=BATCH,
        decompose=False,
        own_cost=True,
    )
    loaded = registry.load_backend(backend)
    ratios: list[float] = []

    def ask() -> None:
        trial = run_trial(case, 0, SITE, loaded, tmp_path, "here")
        ratio = overhead_ratio(trial.ranks)
        assert ratio is not None, (trial.reason, trial.log_tail)
        ratios.append(ratio)

    benchmark.pedantic(ask, rounds=TRIALS, iterations=1)
    found = estimate(ratios, "1")
    benchmark.extra_info |= {"with_to_without": ratios, "estimate": found.model_dump()}
    costs = [100 * (1 - ratio) for ratio in ratios]
    tell(f"{formatting.overheads({backend: found})[0]}; median {spread(costs, 'trials')}")
    goal(f"{backend}, {formatting.ranks(ranks)}: timing and sampling, % of throughput", costs, at_most=COST_GOAL)


class Screen:
    """Where a sweep's standard error goes: nowhere, or to a pseudo-terminal that somebody reads."""

    def __init__(self) -> None:
        self.end = subprocess.DEVNULL
        self.drawn = 0


@contextmanager
def terminal() -> Iterator[Screen]:
    screen = Screen()
    reading, screen.end = pty.openpty()

    def read() -> None:
        # When nobody has the other end open any more, reading fails.
        with suppress(OSError):
            while read := os.read(reading, 2**16):
                screen.drawn += len(read)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield screen
    finally:
        os.close(screen.end)
        reader.join()
        os.close(reading)


@contextmanager
def nowhere() -> Iterator[Screen]:
    yield Screen()


def in_window(folder: Path) -> bool:
    """Whether all ranks of the sweep in this folder are taking measured steps."""
    seen = [one for trial in folder.glob(".runs/*/00-*") for one in read_progress(trial)]
    return len(seen) == RANKS and all(one.phase == "measured step" and one.step for one in seen)


def share_of_a_core(folder: Path, screen: Screen) -> float:
    """Processor time of a sweep's own process, in percent of a core, while its ranks are in the window."""
    command = [
        sys.executable,
        "-m",
        "harness",
        "sweep",
        "--backends",
        "ddp",
        "--workloads",
        "synthetic",
        "--ranks",
        str(RANKS),
        "--batch",
        str(BATCH),
        "--repeats",
        "1",
        "--window",
        str(WINDOW_S),
    ]
    env = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=screen.end) as sweep:
        try:
            parent = psutil.Process(sweep.pid)
            deadline = time.monotonic() + LONGEST_START_S
            while not in_window(folder):
                assert sweep.poll() is None, "the sweep ended before its window began"
                assert time.monotonic() < deadline, "the ranks never came to their window"
                time.sleep(0.1)
            began_s, before = time.monotonic(), parent.cpu_times()
            time.sleep(WATCHED_S)
            took_s, after = time.monotonic() - began_s, parent.cpu_times()
            assert in_window(folder), "the window was over too soon"
        finally:
            sweep.terminate()
    used_s = (after.user + after.system) - (before.user + before.system)
    return 100 * used_s / took_s


@pytest.mark.parametrize("place", [nowhere, terminal])
def test_processor_time_of_the_harness_while_ranks_run(benchmark, goal, tmp_path, place):
    shares: list[float] = []
    drawn: list[int] = []

    def watch() -> None:
        folder = tmp_path / str(len(shares))
        folder.mkdir()
        with place() as screen:
            shares.append(share_of_a_core(folder, screen))
        drawn.append(screen.drawn)

    benchmark.pedantic(watch, rounds=SWEEPS, iterations=1)
    # Without a line that moves, drawing would not have been measured.
    assert all(drawn) == (place is terminal), drawn
    benchmark.extra_info |= {"percent_of_a_core": shares, "bytes_drawn": drawn}
    goal(f"the sweep's own process, drawing {place.__name__}, % of a core", shares, at_most=SHARE_GOAL)
