"""What is rendered for a cluster, and what is found wrong with it beyond the schema."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from bench.plugins.registry import load_backend
from harness.errors import UsageError
from harness.planning.options import option_combinations
from harness.sites.base.contract import TrialRequest
from harness.sites.kubernetes.manifest_checks import manifest_problems
from harness.sites.kubernetes.manifests import as_yaml, object_name, render_job
from harness.sites.kubernetes.options import KubernetesOptions
from harness.sites.kubernetes.site import KubernetesSite
from tests.support.builders import make_case
from tests.support.kubernetes_server import Rejected, admit

SERVER_VERSIONS = ("1.31", "1.37")

CPU = make_case(ranks=4, ranks_per_node=2, site="kubernetes")
GPU = make_case(ranks=8, ranks_per_node=4, site="kubernetes", transport="nccl", device="cuda")
RENDERED = {
    "job-cpu": (CPU, {"cpus": 2, "memory": "4Gi", "interface": "eth0"}),
    "job-gpu": (
        GPU,
        {
            "namespace": "bench",
            "image": "registry.example/scaling:1",
            "node_selector": "gpu=h200,disk=ssd",
            "tolerations": "nvidia.com/gpu:NoSchedule;team=ml:NoExecute",
            "service_account": "trainer",
            "shm_size": "16Gi",
            "spread": "preferred",
        },
    ),
}


def rendered(name):
    """ConfigMap, Service and Job."""
    case, options = RENDERED[name]
    return yaml.safe_load_all(KubernetesSite(KubernetesOptions(**options)).render(case, ())["manifest.yaml"])


@pytest.mark.parametrize(("name", "nodes"), [("job-cpu", 2), ("job-gpu", 2)])
def test_a_job_has_a_pod_for_each_node_and_starts_none_again(name, nodes):
    _, service, job = rendered(name)
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (nodes, nodes, "Indexed")
    assert (spec["backoffLimitPerIndex"], pod_of(job)["restartPolicy"]) == (0, "Never")
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert pod_of(job)["subdomain"] == service["metadata"]["name"]
    env = {name: entry["value"] for name, entry in env_of(job).items()}
    assert env["SCALING_NODES"] == str(nodes)
    assert env["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    command = pod_of(job)["containers"][0]["command"]
    assert command[:3] == ["python", "-m", "bench.node.agent"]


def test_the_options_of_a_cpu_job_are_in_its_pods():
    _, _, job = rendered("job-cpu")
    assert pod_of(job)["containers"][0]["resources"] == {
        limit: {"cpu": "2", "memory": "4Gi"} for limit in ("requests", "limits")
    }
    assert env_of(job)["SCALING_INTERFACE"]["value"] == "eth0"
    (term,) = pod_of(job)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"


def test_the_options_of_a_gpu_job_are_in_its_pods():
    config, service, job = rendered("job-gpu")
    assert {document["metadata"]["namespace"] for document in (config, service, job)} == {"bench"}
    pod = pod_of(job)
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert container["image"] == "registry.example/scaling:1"
    assert pod["nodeSelector"] == {"gpu": "h200", "disk": "ssd"}
    assert pod["tolerations"][:2] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "ml", "effect": "NoExecute"},
    ]
    assert pod["serviceAccountName"] == "trainer"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert "preferredDuringSchedulingIgnoredDuringExecution" in pod["affinity"]["podAntiAffinity"]


def test_a_job_is_rendered_as_in_its_golden_file(golden):
    case, options = RENDERED["job-gpu"]
    golden.check("kubernetes.yaml", KubernetesSite(KubernetesOptions(**options)).render(case, ())["manifest.yaml"])


@pytest.mark.parametrize("version", SERVER_VERSIONS)
@pytest.mark.parametrize("name", RENDERED)
def test_every_object_is_of_the_schema(name, version):
    objects = list(rendered(name))
    assert [manifest["kind"] for manifest in objects] == ["ConfigMap", "Service", "Job"]
    for manifest in objects:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_pods_that_need_a_certificate_in_common_mount_it_from_a_secret_which_the_plan_does_not_hold():
    case = make_case(ranks=4, ranks_per_node=2, site="kubernetes", backend="dask", transport="tasks")
    roles = load_backend("dask").launch(case)
    config, secret, _, job = yaml.safe_load_all(
        KubernetesSite(KubernetesOptions()).render(case, roles)["manifest.yaml"]
    )
    for version in SERVER_VERSIONS:
        kubernetes_validate.validate(secret, version, strict=True)
    assert "made when the trial is submitted" in secret["stringData"]["certificate.pem"]
    (volume,) = [volume for volume in pod_of(job)["volumes"] if "secret" in volume]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    (container,) = pod_of(job)["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
    command = container["command"]
    assert command[command.index("--certificate") + 1] == f"{mount['mountPath']}/certificate.pem"
    assert "certificate" not in str(config)


def test_a_single_pod_makes_its_own_certificate():
    case = make_case(ranks=2, ranks_per_node=2, site="kubernetes", backend="dask", transport="tasks")
    text = KubernetesSite(KubernetesOptions()).render(case, load_backend("dask").launch(case))["manifest.yaml"]
    assert "Secret" not in text
    assert "certificate" not in text


def objects_of(case=CPU):
    return render_job([TrialRequest(case, (), Path("trial"))], KubernetesOptions(), "scaling-a", "sweep")


def test_what_is_rendered_has_no_fault():
    assert manifest_problems(objects_of(), CPU) == []


PLANTED = {
    "restartPolicy is Always": lambda job, service, config: pod_of(job).update(restartPolicy="Always"),
    "restartPolicy is OnSuccess": lambda job, service, config: pod_of(job).update(restartPolicy="OnSuccess"),
    "subdomain is elsewhere": lambda job, service, config: pod_of(job).update(subdomain="elsewhere"),
    "does not match the pods' labels": lambda job, service, config: service["spec"].update(selector={"app": "x"}),
    "its selector {} does not": lambda job, service, config: service["spec"].update(selector={}),
    "is not headless": lambda job, service, config: service["spec"].update(clusterIP="10.0.0.1"),
    "without publishNotReady": lambda job, service, config: service["spec"].update(publishNotReadyAddresses=False),
    "but 2 nodes": lambda job, service, config: job["spec"].update(parallelism=1),
    "completions 4 and parallelism 4": lambda job, service, config: job["spec"].update(completions=4, parallelism=4),
    "completionMode is not Indexed": lambda job, service, config: job["spec"].pop("completionMode"),
    "SCALING_NODES is 3": lambda job, service, config: env_of(job)["SCALING_NODES"].update(value="3"),
    "pod 0 is scaling-a-0.scaling-a": lambda job, service, config: env_of(job)["MASTER_ADDR"].update(value="a-0.a"),
    "'Scaling_A' is not a DNS label": lambda job, service, config: service["metadata"].update(name="Scaling_A"),
    "leaves no room": lambda job, service, config: job["metadata"].update(name="a" * 60),
    "in different namespaces": lambda job, service, config: config["metadata"].update(namespace="other"),
    "label x has the value": lambda job, service, config: config["metadata"].update(labels={"x": "a b"}),
    "not from its ConfigMap": lambda job, service, config: config["metadata"].update(name="other"),
    "more than 1048576 bytes": lambda job, service, config: config["data"].update(case="x" * 2**20),
    "mounted but not defined": lambda job, service, config: pod_of(job).update(volumes=pod_of(job)["volumes"][:2]),
}


def pod_of(job):
    return job["spec"]["template"]["spec"]


def env_of(job):
    return {one["name"]: one for one in pod_of(job)["containers"][0]["env"]}


@pytest.mark.parametrize("said", PLANTED)
def test_what_no_schema_says_is_found(said):
    config, service, job = copy.deepcopy(objects_of())
    PLANTED[said](job, service, config)
    found = manifest_problems([config, service, job], CPU)
    assert any(said in fault for fault in found), found


def test_a_job_without_its_service_is_at_fault():
    assert "no Service" in manifest_problems(objects_of()[::2], CPU)[0]


def test_a_fault_of_the_schema_is_found_before_a_server_rejects_it():
    config, service, job = copy.deepcopy(objects_of())
    pod_of(job)["containers"][0]["comand"] = pod_of(job)["containers"][0].pop("command")
    (problem,) = manifest_problems([config, service, job], CPU)
    assert problem.startswith("Job: spec.template.spec.containers.0: ")
    assert "comand" in problem


def test_the_pods_of_a_trial_can_not_be_those_of_a_deployment():
    pods = objects_of()[2]["spec"]["template"]
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pods}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    with pytest.raises(Rejected, match='Unsupported value: "Never"'):
        admit("deployments", deployment)


def test_the_schema_allows_a_restart_policy_that_the_server_rejects():
    job = copy.deepcopy(objects_of()[2])
    pod_of(job)["restartPolicy"] = "Always"
    kubernetes_validate.validate(job, SERVER_VERSIONS[-1], strict=True)
    with pytest.raises(Rejected, match='Unsupported value: "Always"'):
        admit("jobs", job)


def test_names_are_dns_labels_whatever_the_folder(tmp_path):
    assert object_name(Path("runs/20260101-000000-ab12/00-deadbeef")) == "scaling-20260101-000000-ab12-00-deadbeef"
    for folder in ("A sweep of mine/00-deadbeef", "x" * 90 + "/07-0123abcd", "_/_"):
        objects = render_job([TrialRequest(CPU, (), Path(folder))], KubernetesOptions(), object_name(Path(folder)), "s")
        assert manifest_problems(objects, CPU) == [], folder
    assert object_name(Path("x" * 90 + "/07-0123abcd")).endswith("-07-0123abcd")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("namespace", "Bench"),
        ("image", "a; rm"),
        ("node_selector", "a"),
        ("node_selector", "a=b=c"),
        ("tolerations", "a=b"),
        ("tolerations", "a:Sometimes"),
        ("memory", "much"),
        ("memory", "0Gi"),
        ("service_account", "a/b"),
        ("python", "python -c"),
        ("interface", "eth0;x"),
        ("gpus", "-1"),
        ("image_pull_policy", "Often"),
        ("queue_timeout_s", "0"),
    ],
)
def test_bad_options_are_named(name, value):
    with pytest.raises(UsageError, match=f"option kubernetes.{name} = {re.escape(value)}"):
        option_combinations("kubernetes", KubernetesOptions, {name: (value,)})


def test_what_makes_no_sense_in_pods_is_skipped_with_the_remedy():
    def unavailable_reason(case, **options):
        return KubernetesSite(KubernetesOptions(**options)).unavailable_reason(case)

    assert unavailable_reason(CPU) is None
    assert "--set kubernetes.gpus=4" in unavailable_reason(GPU, gpus=2)
    assert "--net" in unavailable_reason(CPU.model_copy(update={"net": "1gbit"}))


def test_manifests_hold_the_case_as_it_is():
    config = yaml.safe_load_all(as_yaml(objects_of())).__next__()
    (trial,) = json.loads(config["data"]["trials.json"])
    assert type(CPU).model_validate(trial["case"]) == CPU
