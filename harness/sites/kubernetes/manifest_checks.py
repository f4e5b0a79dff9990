"""Checks of a trial's manifests before they are submitted (pure): against Kubernetes' schema, where
``kubernetes-validate`` is installed, and for faults that no schema describes and that would show only in the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from bench.core.case import Case
from harness.sites.kubernetes.manifests import CASE_FOLDER, INDEX_SUFFIX_LENGTH, MAX_LABEL_LENGTH, Manifest
from harness.sites.kubernetes.options import DNS_LABEL, LABEL_VALUE

MAX_CONFIG_MAP_BYTES = 2**20
"""Of a ConfigMap's data."""
SERVICE_NAME = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
JOB_RESTART_POLICIES = ("Never", "OnFailure")
"""What the pods of a Job may have; the schema allows any text."""

NO_OBJECT: Manifest = {}


def manifest_problems(objects: Sequence[Manifest], case: Case) -> list[str]:
    """The faults of a trial's objects, one line each."""
    return [fault for check in CHECKS for fault in check(objects, case)]


def check_schema(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """The newest schema that ``kubernetes-validate`` knows; nothing is checked where that is not installed."""
    try:
        import kubernetes_validate
    except ImportError:
        return
    for manifest in objects:
        try:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as problem:
            yield f"{manifest['kind']}: {'.'.join(map(str, problem.path))}: {problem.message}"


def find_kind(objects: Sequence[Manifest], kind: str) -> Manifest:
    return next((manifest for manifest in objects if manifest["kind"] == kind), NO_OBJECT)


def check_restart_policy(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    policy = _pod_spec(find_kind(objects, "Job")).get("restartPolicy", "Always")
    if find_kind(objects, "Job") and policy not in JOB_RESTART_POLICIES:
        yield f"Job: its pods' restartPolicy is {policy}, allowed: {', '.join(JOB_RESTART_POLICIES)}"


def check_names(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    for manifest in objects:
        metadata = manifest["metadata"]
        pattern = SERVICE_NAME if manifest["kind"] == "Service" else DNS_LABEL
        if not re.fullmatch(pattern, metadata["name"]):
            yield f"{manifest['kind']}: name '{metadata['name']}' is not a DNS label"
        elif manifest["kind"] == "Job" and len(metadata["name"]) > MAX_LABEL_LENGTH - INDEX_SUFFIX_LENGTH:
            yield f"{manifest['kind']}: name '{metadata['name']}' leaves no room for a pod's index"
        for key, value in metadata.get("labels", {}).items():
            if not re.fullmatch(LABEL_VALUE, value):
                yield f"{manifest['kind']}: label {key} has the value '{value}'"
    if len({manifest["metadata"].get("namespace") for manifest in objects}) > 1:
        yield "the objects are in different namespaces"


def check_pod_count(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """Completions, parallelism and nodes are equal, and together the pods hold all ranks."""
    spec = find_kind(objects, "Job").get("spec")
    if spec is None:
        return
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    if not completions == parallelism == case.nodes:
        yield f"Job: completions {completions} and parallelism {parallelism}, but {case.nodes} nodes"
    elif completions * case.ranks_on_a_node != case.ranks:
        yield f"Job: {completions} pods of {case.ranks_on_a_node} ranks do not hold {case.ranks}"
    if spec.get("completionMode") != "Indexed":
        yield "Job: completionMode is not Indexed, so that no pod knows its index"
    declared_nodes = _environment(_pod_spec(find_kind(objects, "Job"))).get("SCALING_NODES")
    if declared_nodes != str(completions):
        yield f"Job: SCALING_NODES is {declared_nodes}, completions {completions}"


def check_rendezvous(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """The pods find pod 0: subdomain, Service, its selector and MASTER_ADDR agree."""
    job, service = find_kind(objects, "Job"), find_kind(objects, "Service")
    if not job:
        return
    if not service:
        yield "Job: no Service gives its pods their names"
        return
    pod, name, spec = _pod_spec(job), service["metadata"]["name"], service["spec"]
    if pod.get("subdomain") != name:
        yield f"Job: the pods' subdomain is {pod.get('subdomain')}, the Service's name {name}"
    if spec.get("clusterIP") != "None":
        yield "Service: it is not headless (clusterIP None), so that pods have no DNS names"
    if not spec.get("publishNotReadyAddresses"):
        yield "Service: without publishNotReadyAddresses the pods can't find each other before they are ready"
    pods = job["spec"]["template"].get("metadata", {}).get("labels", {})
    selector = spec.get("selector") or {}
    if not selector or not selector.items() <= pods.items():
        yield f"Service: its selector {selector} does not match the pods' labels {pods}"
    master_addr, expected = _environment(pod).get("MASTER_ADDR"), f"{job['metadata']['name']}-0.{name}"
    if master_addr != expected:
        yield f"Job: MASTER_ADDR is {master_addr}, pod 0 is {expected}"


def check_config_map(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """The trials are mounted from their ConfigMap, and fit into it."""
    config = find_kind(objects, "ConfigMap")
    if sum(len(text.encode()) for text in config.get("data", {}).values()) > MAX_CONFIG_MAP_BYTES:
        yield f"ConfigMap: more than {MAX_CONFIG_MAP_BYTES} bytes"
    job = find_kind(objects, "Job")
    if not job:
        return
    pod = _pod_spec(job)
    mounted = {
        mount["name"]: mount["mountPath"]
        for manifest in pod["containers"]
        for mount in manifest.get("volumeMounts", ())
    }
    volumes = {manifest["name"]: manifest for manifest in pod.get("volumes", ())}
    for name in mounted.keys() - volumes.keys():
        yield f"Job: volume {name} is mounted but not defined"
    config_maps = [
        volume["configMap"]["name"]
        for name, volume in volumes.items()
        if mounted.get(name) == CASE_FOLDER and "configMap" in volume
    ]
    if config_maps != [config.get("metadata", {}).get("name")]:
        yield f"Job: the trials are mounted from {', '.join(config_maps) or 'nowhere'}, not from its ConfigMap"


CHECKS: tuple[Callable[[Sequence[Manifest], Case], Iterator[str]], ...] = (
    check_schema,
    check_restart_policy,
    check_names,
    check_pod_count,
    check_rendezvous,
    check_config_map,
)


def _pod_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def _environment(pod: Manifest) -> dict[str, str | None]:
    entries = (entry for container in pod.get("containers", ()) for entry in container.get("env", ()))
    return {entry["name"]: entry.get("value") for entry in entries}
