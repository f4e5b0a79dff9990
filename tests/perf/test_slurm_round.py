"""Trials on four Slurm nodes: a round in one job, whose agents serve all of its trials, beside agents a trial.

Both are whole sweeps of the same cases on the same cluster, one after the other in turns, each from its submission to
its page. The other side is another checkout, such as the one before agents outlived their trials:

    git worktree add --detach /tmp/before d45cb543
    SCALING_PERF_BEFORE=/tmp/before pytest tests/perf/test_slurm_round.py

Without that variable it is this checkout with a job a trial (``slurm.pack=false``), whose agents still serve one trial.
``SCALING_PERF_TRIALS=20`` is the goal's number, which takes some 4 minutes on two cores; by default there are 10.
``SCALING_PERF_PAIRS`` sets how often the two are measured: once by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.perf.conftest import SHORT_TRIALS
from tests.support.namespaces import cluster
from tests.support.paths import ROOT
from tests.support.slurm_cluster import PRIVATE, LittleSlurm, serving, unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=f"Slurm can't be run: {unavailable_reason()}")

GOAL = 0.4
TRIALS = int(os.environ.get("SCALING_PERF_TRIALS", "10"))
PAIRS = int(os.environ.get("SCALING_PERF_PAIRS", "1"))
BEFORE = os.environ.get("SCALING_PERF_BEFORE")
SUITE = f"""
workloads = ["synthetic"]
backends = ["ddp"]
{SHORT_TRIALS}
[options.ddp]
bucket_cap_mb = {list(range(1, TRIALS + 1))}
"""


def sweep_s(slurm: LittleSlurm, root: Path, folder: Path, *, pack: bool) -> float:
    """Seconds of a whole sweep of a checkout."""
    folder.mkdir()
    (folder / "suite.toml").write_text(SUITE)
    began = time.monotonic()
    process = slurm.head.start(
        [
            *(sys.executable, "-m", "harness", "sweep", "suite.toml", "--site", "slurm", "--nodes", "4", "--json"),
            # The test's partition accepts jobs of 30 minutes.
            *("--set", f"slurm.pack={str(pack).lower()}", "--set", "slurm.time_limit_min=30"),
        ],
        env={**slurm.env, "PYTHONPATH": str(root)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=900)
    took_s = time.monotonic() - began
    cells = json.loads(out)["cells"] if process.returncode == 0 else []
    assert [cell["outcome"] for cell in cells] == ["ok"] * TRIALS, (process.returncode, err, slurm.said())
    print(f"{root} pack={pack}: {took_s:.1f} s", file=sys.stderr, flush=True)
    return took_s


def test_a_round_in_one_job(tell, goal, tmp_path):
    (tmp_path / "slurm").mkdir()
    sides = {"after": (ROOT, True), "before": (Path(BEFORE or ROOT), BEFORE is not None)}
    with (
        cluster(["head", "n1", "n2", "n3", "n4"], private=PRIVATE) as nodes,
        serving(tmp_path / "slurm", nodes) as slurm,
    ):
        ratios = []
        for pair in range(PAIRS):
            took_s = {}
            # Which of the two goes first alternates.
            for side in sorted(sides, reverse=bool(pair % 2)):
                root, pack = sides[side]
                took_s[side] = sweep_s(slurm, root, tmp_path / f"{pair}-{side}", pack=pack)
            ratios.append(took_s["after"] / took_s["before"])
            tell(f"{TRIALS} trials on 4 nodes: {took_s['after']:.1f} s ÷ {took_s['before']:.1f} s = {ratios[-1]:.3f}")
    goal(f"Slurm, {TRIALS} trials on 4 nodes: after ÷ before", ratios, at_most=GOAL)
