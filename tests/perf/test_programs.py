"""A user's program in a sweep beside the same program run by its launcher: rates, and what watching it costs.

Of each run the program's own lines are read, and of ours also the records. The rate of the records beside what the
program prints under its launcher says whether the records are right; what it prints in a sweep beside what it prints
under its launcher says what watching costs.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import pytest

from bench.core.case import Case
from bench.node.layout import required_roles
from bench.plugins import registry
from harness.planning.program import read_program
from harness.sites.base.contract import TrialRequest
from harness.sites.local.site import SITE
from harness.sweep.program_amounts import with_total_amounts
from reports.analysis.step_times import throughput_of
from tests.perf import by_hand
from tests.perf.conftest import spread

PROGRAMS = Path(__file__).parents[1] / "e2e" / "programs"
PAIRS, RANKS, WARMUP, STEPS = 8, 2, 30, 150
RATE_GOAL, COST_GOAL = 2, 1
"""Percent."""
LINE_STEPS = 10
"""Each program prints its rate every so many steps."""


@dataclass(frozen=True)
class Program:
    """One of the programs, and how to read its rate.

    Args:
        command: The script and its arguments.
        rate: A regular expression of the lines that it prints, with the rate of all ranks in a group; or of one rank,
            then ``each`` is true.
        backend: The launcher.
        options: Of the workload ``script``, beside its command.
    """

    command: str
    rate: str
    backend: str = "torchrun"
    each: bool = False
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.command.split(".")[0]


ALL = [
    Program("mnist_ddp.py --workers 0 --epochs 1 --train-size 12800", r"img/s: ([0-9.]+)"),
    Program(
        "mnist_horovod.py --epochs 1 --train-size 25600 --fp16-allreduce",
        r"throughput: ([0-9.]+) img/s",
        backend="horovodrun",
        each=True,
    ),
    Program(
        "train_lm.py --steps 200 --checkpoint-every 1000",
        r"([0-9.]+) tokens/s",
        options={"samples_per_step": "512/rank", "unit": "tokens"},
    ),
    Program("lightning_autoencoder.py --devices {ranks} --epochs 1 --size 14400", r"([0-9.]+) samples/s"),
    Program("accelerate_classifier.py --epochs 1 --size 12800", r"([0-9.]+) samples/s"),
]


def own_rate(program: Program, output: str) -> float:
    """The rate of all ranks that a program printed in the steps of the window: a mean over equal amounts of work."""
    ranks = RANKS if program.each else 1
    first, last = (ranks * steps // LINE_STEPS for steps in (WARMUP, WARMUP + STEPS))
    rates = [float(rate) for rate in re.findall(program.rate, output)]
    assert len(rates) >= last, output[-2000:]
    return statistics.harmonic_mean(rates[first:last]) * ranks


def by_launcher(program: Program, folder: Path) -> float:
    """The program's own rate under torchrun or horovodrun."""
    words = program.command.format(ranks=RANKS).split()
    words[0] = str(PROGRAMS / words[0])
    if program.backend == "horovodrun":
        command = [str(Path(sys.executable).parent / "horovodrun"), "-np", str(RANKS), "--gloo"]
        command += ["--network-interfaces", "lo", sys.executable, *words]
    else:
        command = by_hand.torchrun(RANKS)[:-1] + words
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return own_rate(program, done.stdout)


def watched(program: Program, folder: Path, telemetry: str) -> tuple[float, float]:
    """The rate in the records of one trial of ours, and the program's own beside it. ``telemetry``: as a case's."""
    folder.mkdir()
    command = f"{PROGRAMS}/{program.command}"
    case = Case(
        workload="script",
        workload_options={"command": command, "whole": True, **program.options},
        program=read_program(command, folder),
        backend=program.backend,
        transport="any",
        scaling="weak",
        ranks=RANKS,
        batch=1,
        threads=1,
        affinity="none",
        warmup=WARMUP,
        steps=STEPS,
        telemetry=telemetry,
        decompose=False,
        own_cost=False,
        roofline=False,
    )
    # The sampler too, unless telemetry is off.
    request = TrialRequest(case, required_roles(case, registry.load_backend(case.backend)), folder)
    ending = with_total_amounts(SITE.start(request).wait(case.timeout_s), case)
    assert ending.outcome == "ok", (ending.reason, ending.log_tail)
    logs = [log.read_text() for log in folder.glob("rank-*.log")]
    # Line by line, as a launcher prints what its ranks print.
    lines = "\n".join(line for together in zip_longest(*map(str.splitlines, logs), fillvalue="") for line in together)
    return throughput_of(ending.ranks), own_rate(program, lines)


@pytest.mark.parametrize("telemetry", ["auto", "off"])
@pytest.mark.parametrize("program", ALL, ids=lambda program: program.name)
def test_the_record_and_the_program_s_own_rate(benchmark, tell, tmp_path, program, telemetry):
    seen: list[tuple[float, float, float]] = []

    def pair() -> None:
        # Which of the two goes first alternates.
        if len(seen) % 2:
            alone = by_launcher(program, tmp_path)
            recorded, own = watched(program, tmp_path / str(len(seen)), telemetry)
        else:
            recorded, own = watched(program, tmp_path / str(len(seen)), telemetry)
            alone = by_launcher(program, tmp_path)
        seen.append((recorded, own, alone))

    benchmark.pedantic(pair, rounds=PAIRS, iterations=1)
    ratios = {
        f"record ÷ what the program prints under its launcher (goal: within {RATE_GOAL} %)": [
            r / a for r, _, a in seen
        ],
        "record ÷ what it prints in the same run": [r / own for r, own, _ in seen],
        f"what it prints in a sweep ÷ under its launcher (goal: {COST_GOAL} % or less)": [
            own / a for _, own, a in seen
        ],
    }
    benchmark.extra_info |= ratios
    for what, values in ratios.items():
        tell(f"{what}: median {spread(values, 'pairs')}")
    assert len(seen) == PAIRS
