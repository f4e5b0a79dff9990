"""The seven systems that this project began with, each through `sweep`, their records in one store and one report."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.conftest import MARK
from tests.support.kubernetes_server import stand_in
from tests.support.namespaces import cluster
from tests.support.sagemaker_hosts import ML, sagemaker_on
from tests.support.slurm_cluster import PRIVATE, serving
from tests.support.slurm_cluster import unavailable_reason as no_slurm

pytestmark = pytest.mark.skipif(no_slurm() is not None, reason=f"Slurm can't be run: {no_slurm()}")

SUITE = """
workloads = ["mnist"]
repeats = 1
warmup = 2
steps = 5
batch = 64
telemetry = "off"
affinity = "none"
decompose = false
own_cost = false
roofline = false
[options.mnist]
source = ["digits"]
[options.array_mean]
rows = [2000]
columns = [2000]
[options.kubernetes]
interface = "lo"
[options.sagemaker]
role = "arn:aws:iam::123456789012:role/trains"
image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311-ubuntu22.04-sagemaker"
s3 = "s3://our-bucket/benchmarks"
price_per_hour = 0.23
poll_s = 0.1
"""
BEYOND = ("--nodes", "2")
SYSTEMS = (
    "dask/tasks · A",
    "single · B",
    "ddp/gloo · B",
    "horovod/gloo · B",
    "ddp/gloo, 1 a node · C on kubernetes",
    "ddp/gloo, 1 a node · D on sagemaker",
    "horovod/mpi, 1 a node · E on slurm",
)


def test_seven_systems_and_one_report(harness, tmp_path_factory):
    (harness.folder / "seven.toml").write_text(SUITE)
    outside = tmp_path_factory.mktemp("systems")
    sweeps = [
        swept(harness, "--backends", "dask", "--workloads", "array_mean", "--ranks", "2"),
        swept(harness, "--backends", "single,ddp,horovod", "--ranks", "1,2"),
    ]
    with stand_in(outside / "pods", **{MARK: harness.mark}) as pods:
        harness.env["KUBECONFIG"] = str(pods.kubeconfig(outside / "kubeconfig"))
        sweeps.append(swept(harness, "--site", "kubernetes", "--backends", "ddp", *BEYOND))
    with cluster(["algo-1", "algo-2"], private=(ML,)) as hosts, sagemaker_on(hosts) as service:
        harness.env.update(service.env)
        sweeps.append(swept(harness, "--site", "sagemaker", "--backends", "ddp", *BEYOND))
    with cluster(["head", "n1", "n2"], private=PRIVATE) as nodes, serving(outside / "slurm", nodes) as slurm:
        arguments = ("--site", "slurm", "--backends", "horovod", "--set", "horovod.transport=mpi", *BEYOND)
        done = slurm.head.run(command(*arguments), env={**harness.env, **slurm.env}, cwd=harness.folder)
        assert done.returncode == 0, done.stderr
        sweeps.append(json.loads(done.stdout)["sweep"])
    page = harness.folder / "seven.html"
    told = harness.run("report", *sweeps, "--out", str(page))
    assert told.returncode == 0, told.stderr
    text = page.read_text()
    for system in SYSTEMS:
        assert system in text
    harness.nothing_left()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness", "sweep", "seven.toml", "--json", *arguments]


def swept(harness, *arguments: str) -> str:
    """The id of a sweep whose every cell did the same work as a single process."""
    done = harness.run(*command(*arguments)[3:])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    for cell in document["cells"]:
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same"), cell
    return document["sweep"]
