"""Trials in pods and on SageMaker's instances: a round in one job, beside a job a trial, as whole sweeps in turns.

Both run real agents on two nodes, behind stand-ins for the services, which start them at once. The time that a cluster
takes to place a pod, to pull its image or to start instances comes on top, for each job, and is not measured here. The
other side is ``pack=false``: each trial loads the frameworks anew, as before there were rounds in one job.

``SCALING_PERF_TRIALS`` sets the number of trials (6 by default), ``SCALING_PERF_PAIRS`` how often the two are measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.perf.conftest import SHORT_TRIALS
from tests.support.alternating import alternating_ratio
from tests.support.kubernetes_server import stand_in
from tests.support.namespaces import cluster, unavailable_reason
from tests.support.paths import ROOT
from tests.support.sagemaker_hosts import ML, sagemaker_on

GOAL = 0.4
TRIALS = int(os.environ.get("SCALING_PERF_TRIALS", "6"))
PAIRS = int(os.environ.get("SCALING_PERF_PAIRS", "1"))
SUITE = f"""
workloads = ["synthetic"]
backends = ["ddp"]
nodes = [2]
{SHORT_TRIALS}
[options.ddp]
bucket_cap_mb = {list(range(1, TRIALS + 1))}

[options.kubernetes]
interface = "lo"

[options.sagemaker]
role = "arn:aws:iam::123456789012:role/trains"
image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311-ubuntu22.04-sagemaker"
s3 = "s3://our-bucket/benchmarks"
poll_s = 0.1
"""


def sweep_s(site: str, folder: Path, env: Mapping[str, str], *, pack: bool) -> float:
    """Seconds of a whole sweep."""
    folder.mkdir(parents=True)
    (folder / "suite.toml").write_text(SUITE)
    command = [sys.executable, "-m", "harness", "sweep", "suite.toml", "--site", site, "--json"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--set", f"{site}.pack={str(pack).lower()}"],
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        timeout=900,
        check=False,
    )
    took_s = time.monotonic() - began
    cells = json.loads(done.stdout)["cells"] if done.returncode == 0 else []
    assert [cell["outcome"] for cell in cells] == ["ok"] * TRIALS, (done.returncode, done.stderr)
    print(f"{site} pack={pack}: {took_s:.1f} s", file=sys.stderr, flush=True)
    return took_s


def compare(
    tell: Callable[[str], None], goal: Callable[..., None], site: str, folder: Path, env: Mapping[str, str]
) -> None:
    folders = iter(range(2 * PAIRS))

    def side(*, pack: bool) -> float:
        return sweep_s(site, folder / str(next(folders)), env, pack=pack)

    ratio = alternating_ratio(lambda: side(pack=True), lambda: side(pack=False), PAIRS)
    spread = f" ({ratio.low:.3f}–{ratio.high:.3f}, {PAIRS} pairs)" if PAIRS > 1 else ""
    tell(f"{site}, {TRIALS} trials on 2 nodes: a round in one job takes {ratio.median:.3f}{spread} of a job a trial")
    goal(f"{site}, {TRIALS} trials on 2 nodes: a round in one job ÷ a job a trial", ratio.ratios, at_most=GOAL)


def test_a_round_in_the_pods_of_one_job(tell, goal, tmp_path):
    with stand_in(tmp_path / "cluster") as found:
        compare(tell, goal, "kubernetes", tmp_path, {"KUBECONFIG": str(found.kubeconfig(tmp_path / "kubeconfig"))})


@pytest.mark.skipif(unavailable_reason() is not None, reason=f"no hosts can be made: {unavailable_reason()}")
def test_a_round_in_one_training_job(tell, goal, tmp_path):
    with cluster(["algo-1", "algo-2"], private=(ML,)) as nodes, sagemaker_on(nodes) as service:
        compare(tell, goal, "sagemaker", tmp_path, service.env)
