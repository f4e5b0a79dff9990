"""Two sweeps at once on one machine: what the machine lock costs them, and what sharing does to their numbers.

Each round runs a small sweep alone, two at once, one trial at a time, and two that share the machine. Told
are the throughputs of each of the two as ratios to those alone, and how long two at once took in sweeps alone (2 is the
least where trials do not overlap).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from bench.host.lock_folder import FOLDER_VARIABLE
from harness.store.opening import open_store
from reports.analysis.trial_measures import stored_measures
from tests.perf.conftest import spread

ROUNDS = 3
SWEEP = ("--backends", "ddp", "--workloads", "synthetic", "--ranks", "2", "--repeats", "3", "--window", "0.5")
COMMAND = (sys.executable, "-m", "harness", "sweep", "lean.toml", "-q", *SWEEP)
LEAN = "decompose = false\nown_cost = false\nroofline = false\n"


def sweeps_at_once(folder: Path, count: int, *options: str) -> tuple[float, list[float]]:
    """How long so many sweeps take together, in seconds, and the median throughput of the trials of each."""
    folder.mkdir()
    (folder / "lean.toml").write_text(LEAN)
    env = {**os.environ, FOLDER_VARIABLE: str(folder / "lock")}
    stores = [folder / f"{number}.sqlite" for number in range(count)]
    began = time.monotonic()
    processes = [
        subprocess.Popen([*COMMAND, *options, "--store", store.name], cwd=folder, env=env, stdout=subprocess.DEVNULL)
        for store in stores
    ]
    assert [process.wait(240) for process in processes] == [0] * count
    took_s = time.monotonic() - began
    return took_s, [throughput_in(store) for store in stores]


def throughput_in(path: Path) -> float:
    with closing(open_store(str(path), create=False)) as store:
        return statistics.median(stored_measures(trial)["rate"] for trial in store.trials(store.sweep_id("latest")))


def test_throughput_of_two_sweeps_at_once(tmp_path, tell):
    locked, shared, wall = [], [], []
    for number in range(ROUNDS):
        alone_s, (alone,) = sweeps_at_once(tmp_path / f"{number}-alone", 1)
        took_s, rates = sweeps_at_once(tmp_path / f"{number}-locked", 2)
        locked += [rate / alone for rate in rates]
        wall.append(took_s / alone_s)
        _, rates = sweeps_at_once(tmp_path / f"{number}-shared", 2, "--shared")
        shared += [rate / alone for rate in rates]
        tell(f"round {number + 1}: {locked[-2:]} with the lock, {shared[-2:]} shared, {took_s:.1f} s for {alone_s:.1f}")
    tell(f"throughput of each of two sweeps at once ÷ one alone, with the lock: {spread(locked, 'sweeps')}")
    tell(f"throughput of each of two sweeps at once ÷ one alone, with --shared: {spread(shared, 'sweeps')}")
    tell(f"time of two at once with the lock ÷ one alone: {spread(wall, 'rounds')}")
