"""How far predictions are off, over links of a stated rate between network namespaces. It takes root and iproute2."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.sites.local.networks import links_unavailable_reason

GOAL_UNSEEN, GOAL_EIGHT = 0.05, 0.10


@pytest.fixture
def swept(benchmark, tmp_path):
    """``swept(*arguments)``: the JSON of a sweep, timed as one round."""
    if why := links_unavailable_reason():
        pytest.skip(why)

    def sweep(*arguments: str) -> dict:
        command = [sys.executable, "-m", "harness", "sweep", *arguments, "--json"]
        done = benchmark.pedantic(
            lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True), rounds=1
        )
        return json.loads(done.stdout)

    return sweep


def test_the_step_of_an_unseen_large_model(swept, benchmark, tell):
    """From messages of at most 8 MiB, and the compute of one rank: 27 MB of gradients over 1 Gbit/s."""
    found = swept(
        "--backends",
        "ddp,horovod",
        "--workloads",
        "synthetic,allreduce",
        "--ranks",
        "1,2",
        "--net",
        "1gbit",
        "--scaling",
        "weak",
        "--batch",
        "16",
        "--repeats",
        "3",
        "--set",
        "synthetic.model=transformer",
        "--set",
        "synthetic.width=256",
        "--set",
        "synthetic.layers=8",
        "--set",
        "allreduce.largest=8MiB",
    )
    benchmark.extra_info["forecasts"] = found["forecasts"]
    for forecast in found["forecasts"]:
        told = [f"{1 / (1 + one['error']) - 1:+.1%}" for one in forecast["backtests"] if one["kind"] == "step"]
        known = [f"{one['error']:+.1%}" for one in forecast["explained"] if one["ranks"] == 2]
        tell(
            f"{forecast['curve']}: the step is {told or forecast['reason']} off (goal ±{GOAL_UNSEEN:.0%}); with "
            f"the compute measured at 2 ranks {known}"
        )


def test_eight_ranks_from_one_two_and_four(swept, benchmark, tell):
    found = swept("links")
    benchmark.extra_info["forecasts"] = found["forecasts"]
    for forecast in found["forecasts"]:
        for backtest in forecast["backtests"]:
            tell(
                f"{forecast['curve']}: from {backtest['smaller']} by {backtest['model']}: 8 ranks' throughput foretold "
                f"{backtest['error']:+.1%} off (goal ±{GOAL_EIGHT:.0%}), interval held it: {backtest['held']}"
            )
