"""The operations of the workload ``collectives`` beside a plain loop over torch.distributed (Gloo, two ranks)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.host.network import LOOPBACK, free_port
from tests.support.paths import ROOT

PAIRS, GOAL = 10, 3
"""Alternating pairs of blocks, and percent."""


@pytest.mark.parametrize("ranks", [2])
def test_time_beside_a_plain_loop(benchmark, goal, ranks):
    arguments = [str(ranks), str(free_port(LOOPBACK.address)), str(PAIRS)]

    def run() -> dict[str, list[list[float]]]:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.perf.scripts.plain_collectives", str(rank), *arguments],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": LOOPBACK.name},
            )
            for rank in range(ranks)
        ]
        outputs = [rank.communicate(timeout=1200)[0] for rank in started]
        return json.loads(outputs[0])

    found = benchmark.pedantic(run, rounds=1, iterations=1)
    excess = {key: [100 * (own / plain - 1) for own, plain in pairs] for key, pairs in found.items()}
    benchmark.extra_info |= {"excess_percent": excess}
    for key, values in excess.items():
        goal(f"{key} bytes beside a plain loop, % longer", values, at_most=GOAL)
