"""The templates in docs/kubeflow: of the schema as far as it is Kubernetes' own, and with today's commands."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from bench.core.case import Case
from bench.node.launchers.base import worker_command
from bench.plugins.registry import load_backend
from harness.sites.base.remote import node_command
from harness.sites.kubernetes.manifests import CASE_FOLDER, RESULTS_FOLDER, container, container_environment, mounts
from harness.sites.kubernetes.options import KubernetesOptions
from tests.support.paths import ROOT

SERVER_VERSION = "1.37"
TEMPLATES = ("trainjob", "mpijob")


def read(name: str) -> tuple[Case, dict[str, Any]]:
    """The case of a template and its Kubeflow object."""
    text = (ROOT / "docs" / "kubeflow" / f"{name}.yaml").read_text()
    config, job = yaml.safe_load_all(text)
    kubernetes_validate.validate(config, SERVER_VERSION, strict=True)
    return Case.model_validate_json(config["data"]["case.json"]), job


def check_pod(spec: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    kubernetes_validate.validate(pod, SERVER_VERSION, strict=True)
    (only,) = spec["containers"]
    assert only["volumeMounts"] == mounts()
    assert {volume["name"] for volume in spec["volumes"]} == {mount["name"] for mount in mounts()}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_case_is_one_of_today(name):
    case, _ = read(name)
    assert load_backend(case.backend).unsupported_reason(case) is None
    assert case.nodes == 2


def test_the_trainjob_starts_an_agent_a_node_in_a_container_of_the_site_s():
    case, job = read("trainjob")
    trainer, name = job["spec"]["trainer"], job["metadata"]["name"]
    options = KubernetesOptions()
    env = container_environment(case, options, f"{name}-node-0-0.{name}")
    arguments = ("--case", f"{CASE_FOLDER}/case.json", "--out", RESULTS_FOLDER, "--transfer")
    today = container(case, options, node_command(*arguments, python="python"), env)
    assert {field: trainer[field] for field in ("image", "command", "env")} == {
        field: today[field] for field in ("image", "command", "env")
    }
    assert trainer["resourcesPerNode"] == today["resources"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (case.nodes, case.ranks_on_a_node)
    patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    check_pod(patch["template"]["spec"]["template"]["spec"])


def test_the_mpijob_starts_all_ranks_by_mpirun():
    case, job = read("mpijob")
    replicas = job["spec"]["mpiReplicaSpecs"]
    for replica in replicas.values():
        check_pod(replica["template"]["spec"])
    (launcher,) = replicas["Launcher"]["template"]["spec"]["containers"]
    rank = worker_command("python", f"{CASE_FOLDER}/case.json", RESULTS_FOLDER)
    assert launcher["command"] == ["mpirun", "--bind-to", "none", "-np", str(case.ranks), *rank]
    assert (replicas["Launcher"]["replicas"], replicas["Worker"]["replicas"]) == (1, case.nodes)
    assert job["spec"]["slotsPerWorker"] == case.ranks_on_a_node
