"""A whole sweep beside a shell loop of torchrun and horovodrun over the script by hand.

Both take the same number of measured steps in each of the 12 cells: theirs takes as many as ours last measured in
about a second. Ours does more in its time. Every training cell proves by a verified prefix, with a reference on rank 0,
that it did a single process's work; it warms up until step times have settled, where the script here does not warm up;
it samples the host; and in the end there is a store and a report. ``complete`` also measures where the time of a step
goes and what measuring costs, after the window, as a sweep does unless told otherwise; ``window_only`` leaves that out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.opening import open_store
from harness.store.store import DEFAULT_STORE
from tests.perf import by_hand

# Of this batch even the slowest model takes the fewest steps that are measured, 10, in about a second.
PAIRS, BATCH, WINDOW_S = 3, 32, 1.0
CELLS = 12
GOAL = 0.28
SUITE = f"""
backends = ["ddp", "horovod"]
workloads = ["synthetic"]
ranks = [1, 2]
threads = 1
repeats = 1
batch = {BATCH}
window_s = {WINDOW_S}

[options.synthetic]
model = ["mlp", "transformer", "convnet"]
"""
KINDS = {"complete": "", "window_only": "decompose = false\nown_cost = false\nroofline = false\n"}
LAUNCHERS: dict[str, Callable[..., list[str]]] = {"ddp": by_hand.torchrun, "horovod": by_hand.horovodrun}

Cell = tuple[str, str, int]
"""Backend, model, ranks."""


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Seconds a command takes, and its standard output."""
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    took_s = time.monotonic() - began
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return took_s, done.stdout


def sweep(suite: str, folder: Path) -> tuple[float, dict[Cell, int]]:
    """Seconds that a sweep takes, report and all, and the steps that it measured."""
    folder.mkdir()
    (folder / "suite.toml").write_text(suite)
    took_s, _ = timed([sys.executable, "-m", "harness", "sweep", "suite.toml"], folder)
    store = open_store(str(folder / DEFAULT_STORE), create=False)
    trials = store.trials(store.sweep("latest").id)
    store.close()
    steps = {
        (trial.case.backend, str(trial.case.workload_options.get("model", "mlp")), trial.case.ranks): trial.ranks[
            0
        ].steps
        for trial in trials
    }
    assert len(steps) == CELLS
    assert list(folder.glob(".runs/*/report.html"))
    return took_s, steps


def loop(steps: dict[Cell, int], folder: Path) -> float:
    """Seconds that the launchers take, one cell after the other."""
    total_s = 0.0
    for (backend, model, ranks), count in steps.items():
        took_s, said = timed(LAUNCHERS[backend](ranks, backend, model, count, 0, BATCH), folder)
        assert len(by_hand.seconds_told(said)) == ranks, said
        total_s += took_s
    return total_s


@pytest.mark.parametrize("kind", KINDS)
def test_sweep_beside_a_loop_of_launchers(side_by_side, benchmark, goal, tmp_path, kind):
    # Once beforehand: files are read from the disk for the first time, and theirs knows how many steps to take.
    sweeps = [sweep(KINDS[kind] + SUITE, tmp_path / "rehearsal")]

    def ours() -> float:
        sweeps.append(sweep(KINDS[kind] + SUITE, tmp_path / str(len(sweeps))))
        return sweeps[-1][0]

    ratios = side_by_side(
        ours,
        lambda: loop(sweeps[-1][1], tmp_path),
        PAIRS,
        f"seconds of our sweep of {CELLS} cells ÷ of a loop of launchers",
    )
    benchmark.extra_info["steps"] = [{" ".join(map(str, cell)): n for cell, n in steps.items()} for _, steps in sweeps]
    goal(f"sweep of {CELLS} cells, {kind} ÷ loop of launchers", ratios, at_most=GOAL)
