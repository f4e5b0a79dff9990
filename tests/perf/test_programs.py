"""A user's program in a sweep beside the same program run by its launcher: rates, and what watching it costs.

Both run whole. Of each run the program's own lines are read, and of ours also the record. The ratio of the record's
rate to what the program prints under its launcher says whether the record is right; the ratio of what it prints in a
sweep to what it prints under its launcher says what watching costs.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.perf import by_hand
from tests.perf.conftest import spread

PROGRAMS = Path(__file__).parents[1] / "e2e" / "programs"
PAIRS, RANKS = 8, 2
RATE_GOAL, COST_GOAL = 2, 1
"""Percent."""
WARM_LINES = 3
"""The program's first lines are not of its settled speed."""


@dataclass(frozen=True)
class Program:
    """One of the programs, and how to read its rate.

    Args:
        command: The script and its arguments.
        rate: A regular expression of the lines that it prints, with the rate of all ranks in a group; or of one rank,
            then ``each`` is true.
        launcher: As ``--launcher``.
        steps: The optimizer steps that a sweep measures, of those that the program takes.
    """

    command: str
    rate: str
    launcher: str = "torchrun"
    each: bool = False
    steps: int = 200
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.command.split(".")[0]


ALL = [
    Program("mnist_ddp.py --workers 0 --epochs 1 --train-size 24000 --batch-size 32", r"img/s: ([0-9.]+)", steps=300),
    Program(
        "mnist_horovod.py --epochs 1 --train-size 48000 --fp16-allreduce",
        r"throughput: ([0-9.]+) img/s",
        launcher="horovod",
        each=True,
        steps=300,
    ),
    Program(
        "train_lm.py --steps 300 --checkpoint-every 1000",
        r"([0-9.]+) tokens/s",
        arguments=("--samples-per-step", str(2 * 2 * 4 * 64), "--unit", "tokens"),
    ),
    Program("lightning_autoencoder.py --devices {ranks} --epochs 1 --size 25600", r"([0-9.]+) samples/s", steps=300),
    Program("accelerate_classifier.py --epochs 1 --size 20000", r"([0-9.]+) samples/s"),
]


def own_rate(program: Program, output: str) -> float:
    """The settled rate of all ranks that a program printed: a mean over equal amounts of work."""
    rates = [float(rate) for rate in re.findall(program.rate, output)]
    # Of a program whose every rank prints, the slowest is not told from the others; over many lines they are equal.
    rates = rates[WARM_LINES * (RANKS if program.each else 1) :]
    assert len(rates) >= 10, output[-2000:]
    return statistics.harmonic_mean(rates) * (RANKS if program.each else 1)


def by_launcher(program: Program, folder: Path) -> float:
    """The program's own rate under torchrun or horovodrun."""
    words = program.command.format(ranks=RANKS).split()
    words[0] = str(PROGRAMS / words[0])
    if program.launcher == "horovod":
        command = [str(Path(sys.executable).parent / "horovodrun"), "-np", str(RANKS), "--gloo"]
        command += ["--network-interfaces", "lo", sys.executable, *words]
    else:
        command = by_hand.torchrun(RANKS)[:-1] + words
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return own_rate(program, done.stdout)


def in_a_sweep(program: Program, folder: Path) -> tuple[float, float]:
    """The rate of the record, and the program's own beside it."""
    folder.mkdir()
    (folder / "lean.toml").write_text("decompose = false\nown_cost = false\nroofline = false\n")
    command = [sys.executable, "-m", "harness", "sweep", "lean.toml", "--json", "--repeats", "1", "--whole"]
    command += ["--script", f"{PROGRAMS}/{program.command}", "--launcher", program.launcher, "--ranks", str(RANKS)]
    command += ["--steps", str(program.steps), *program.arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (cell,) = json.loads(done.stdout)["cells"]
    logs = folder.glob(".runs/*/*/rank-*.log")
    return cell["throughput"]["value"], own_rate(program, "".join(log.read_text() for log in logs))


@pytest.mark.parametrize("program", ALL, ids=lambda program: program.name)
def test_the_record_and_the_program_s_own_rate(benchmark, tell, tmp_path, program):
    numbers = count()
    records: list[float] = []
    watched: list[float] = []

    def pair() -> None:
        number = next(numbers)
        # Which of the two goes first alternates.
        alone = by_launcher(program, tmp_path) if number % 2 else None
        recorded, own = in_a_sweep(program, tmp_path / str(number))
        alone = alone or by_launcher(program, tmp_path)
        records.append(recorded / alone)
        watched.append(own / alone)

    benchmark.pedantic(pair, rounds=PAIRS, iterations=1)
    benchmark.extra_info |= {"record_to_own": records, "watched_to_own": watched}
    tell(f"rate in the record ÷ what it prints under its launcher: {spread(records, 'pairs')}; goal ±{RATE_GOAL} %")
    tell(f"its own rate in a sweep ÷ under its launcher: {spread(watched, 'pairs')}; goal {COST_GOAL} % or less")
