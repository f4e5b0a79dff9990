"""What a schema does not say of a manifest, and an API server, a controller or a DNS would only say too late (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.case import Case
from harness.kube.manifests import CASE_FOLDER, INDEX_LENGTH, LABEL_LENGTH, Manifest
from harness.kube.options import DNS_LABEL, VALUE

MOST_BYTES = 2**20
"""Of a ConfigMap's data."""
SERVICE_NAME = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
RESTARTS: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("Always",), "ReplicaSet": ("Always",), "StatefulSet": ("Always",), "DaemonSet": ("Always",),
    "Job": ("Never", "OnFailure"),
}  # fmt: skip
"""Which restart policies the pods of a kind may have."""

ANYTHING: Manifest = {}


def faults(objects: Sequence[Manifest], case: Case) -> list[str]:
    """What is wrong with a trial's objects, a line each; empty where nothing is."""
    return [fault for check in CHECKS for fault in check(objects, case)]


def of_kind(objects: Sequence[Manifest], kind: str) -> Manifest:
    return next((one for one in objects if one["kind"] == kind), ANYTHING)


def restart_policy(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    for one in objects:
        allowed = RESTARTS.get(one["kind"])
        if allowed is None:
            continue
        found = _pod(one).get("restartPolicy", "Always")
        if found not in allowed:
            yield f"{one['kind']}: its pods' restartPolicy is {found}, allowed: {', '.join(allowed)}"


def names(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    for one in objects:
        about = one["metadata"]
        pattern = SERVICE_NAME if one["kind"] == "Service" else DNS_LABEL
        if not re.fullmatch(pattern, about["name"]):
            yield f"{one['kind']}: name '{about['name']}' is no DNS label"
        elif one["kind"] in ("Job", "TrainJob", "MPIJob") and len(about["name"]) > LABEL_LENGTH - INDEX_LENGTH:
            yield f"{one['kind']}: name '{about['name']}' leaves no room for a pod's number"
        for key, value in about.get("labels", {}).items():
            if not re.fullmatch(VALUE, value):
                yield f"{one['kind']}: label {key} has the value '{value}'"
    if len({one["metadata"].get("namespace") for one in objects}) > 1:
        yield "the objects are in different namespaces"


def pods_as_ranks(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """Completions = parallelism = pods, and together they hold all ranks."""
    spec = of_kind(objects, "Job").get("spec")
    if spec is None:
        return
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    if not completions == parallelism == case.nodes:
        yield f"Job: completions {completions} and parallelism {parallelism}, but {case.nodes} nodes"
    elif completions * case.ranks_on_a_node != case.ranks:
        yield f"Job: {completions} pods of {case.ranks_on_a_node} ranks do not hold {case.ranks}"
    if spec.get("completionMode") != "Indexed":
        yield "Job: without completionMode Indexed no pod knows its number"
    said = _variables(_pod(of_kind(objects, "Job"))).get("SCALING_NODES")
    if said != str(completions):
        yield f"Job: SCALING_NODES is {said}, completions {completions}"


def meeting(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """The pods find pod 0: subdomain, Service, its selector and MASTER_ADDR are of one piece."""
    job, service = of_kind(objects, "Job"), of_kind(objects, "Service")
    if not job:
        return
    if not service:
        yield "Job: no Service gives its pods their names"
        return
    pod, name, spec = _pod(job), service["metadata"]["name"], service["spec"]
    if pod.get("subdomain") != name:
        yield f"Job: the pods' subdomain is {pod.get('subdomain')}, the Service's name {name}"
    if spec.get("clusterIP") != "None":
        yield "Service: it is not headless (clusterIP None), so that pods have no names of their own"
    if not spec.get("publishNotReadyAddresses"):
        yield "Service: pods that are not ready yet could not be found, and get ready by meeting"
    pods = job["spec"]["template"].get("metadata", {}).get("labels", {})
    selector = spec.get("selector") or {}
    if not selector or not selector.items() <= pods.items():
        yield f"Service: its selector {selector} does not match the pods' labels {pods}"
    meets, expected = _variables(pod).get("MASTER_ADDR"), f"{job['metadata']['name']}-0.{name}"
    if meets != expected:
        yield f"Job: MASTER_ADDR is {meets}, pod 0 is {expected}"


def the_case(objects: Sequence[Manifest], case: Case) -> Iterator[str]:
    """What the pods read is there, and fits."""
    config = of_kind(objects, "ConfigMap")
    if sum(len(text.encode()) for text in config.get("data", {}).values()) > MOST_BYTES:
        yield f"ConfigMap: more than {MOST_BYTES} bytes"
    job = of_kind(objects, "Job")
    if not job:
        return
    pod = _pod(job)
    mounted = {mount["name"]: mount["mountPath"] for one in pod["containers"] for mount in one.get("volumeMounts", ())}
    volumes = {one["name"]: one for one in pod.get("volumes", ())}
    for name in mounted.keys() - volumes.keys():
        yield f"Job: volume {name} is mounted, and there is none"
    read = [volume["configMap"]["name"] for name, volume in volumes.items()
            if mounted.get(name) == CASE_FOLDER and "configMap" in volume]  # fmt: skip
    if read != [config.get("metadata", {}).get("name")]:
        yield f"Job: the case comes from {', '.join(read) or 'nowhere'}, which is not its ConfigMap"


CHECKS: tuple[Callable[[Sequence[Manifest], Case], Iterator[str]], ...] = (
    restart_policy, names, pods_as_ranks, meeting, the_case,
)  # fmt: skip


def _pod(one: Manifest) -> Manifest:
    found: Manifest = one.get("spec", {}).get("template", {}).get("spec", {})
    return found


def _variables(pod: Manifest) -> dict[str, str | None]:
    return {found["name"]: found.get("value") for one in pod.get("containers", ()) for found in one.get("env", ())}
