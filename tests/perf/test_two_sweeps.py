"""Two sweeps at once on one machine: what turns cost them, and what sharing does to their numbers.

Each round runs a small sweep alone, two at once that take turns, and two that share the machine. Told are the step
times of the latter two as ratios to those alone, and how long two at once took in sweeps alone (2 is the least with
turns).
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
COMMAND = (sys.executable, "-m", "harness", "-q", "sweep", "lean.toml", *SWEEP)
LEAN = "decompose = false\nown_cost = false\nroofline = false\n"


def sweeps_at_once(folder: Path, count: int, *options: str) -> tuple[float, float]:
    """How long so many sweeps take together, and the median of their steps, in seconds."""
    folder.mkdir()
    (folder / "lean.toml").write_text(LEAN)
    env = {**os.environ, FOLDER_VARIABLE: str(folder / "turns")}
    began = time.monotonic()
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "harness",
                "-q",
                "sweep",
                "lean.toml",
                *SWEEP,
                *options,
                "--store",
                f"{number}.sqlite",
            ],
            cwd=folder,
            env=env,
            stdout=subprocess.DEVNULL,
        )
        for number in range(count)
    ]
    assert [process.wait(240) for process in processes] == [0] * count
    took_s, steps = time.monotonic() - began, []
    for number in range(count):
        with closing(open_store(str(folder / f"{number}.sqlite"), create=False)) as store:
            steps += [stored_measures(trial)["step_s"] for trial in store.trials(store.sweep_id("latest"))]
    return took_s, statistics.median(steps)


def test_steps_of_two_sweeps_at_once(tmp_path, tell):
    ratios: dict[str, list[float]] = {"turns": [], "shared": [], "wall": []}
    for number in range(ROUNDS):
        alone_s, alone = sweeps_at_once(tmp_path / f"{number}-alone", 1)
        took_s, in_turns = sweeps_at_once(tmp_path / f"{number}-turns", 2)
        _, sharing = sweeps_at_once(tmp_path / f"{number}-shared", 2, "--shared")
        for name, ratio in (("turns", in_turns / alone), ("shared", sharing / alone), ("wall", took_s / alone_s)):
            ratios[name].append(ratio)
    tell(f"step of two at once that take turns ÷ alone: {spread(ratios['turns'], 'rounds')}")
    tell(f"step of two at once that share ÷ alone: {spread(ratios['shared'], 'rounds')}")
    tell(f"time of two at once that take turns ÷ one alone: {spread(ratios['wall'], 'rounds')}")
