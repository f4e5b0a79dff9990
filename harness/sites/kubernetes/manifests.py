"""A trial as Kubernetes objects: an Indexed Job, a pod a node, and a headless Service by which the pods find pod 0.

A Deployment would not do: its pods have to restart for ever, and an API server refuses one whose pods never do.
Everything here is pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.node.rendezvous import DEFAULT_PORT
from harness.sites.base.remote import MARGIN_S, node_command
from harness.sites.kubernetes.options import KubernetesOptions

Manifest = dict[str, Any]

MANAGED_BY = "scaling-harness"
SWEEP_LABEL, TRIAL_LABEL = f"{MANAGED_BY}/sweep", f"{MANAGED_BY}/trial"
GPU_RESOURCE = "nvidia.com/gpu"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
HOSTNAME_LABEL = "kubernetes.io/hostname"

CONTAINER = "node"
CASE_FOLDER, RESULTS_FOLDER, SHARED_MEMORY = "/case", "/results", "/dev/shm"
TTL_AFTER_FINISHED_S = 86_400
"""How long a job that has ended waits for a sweep that was interrupted; the cluster then forgets it by itself."""
TERMINATION_GRACE_S = 10
"""How long a pod that is told to end may take for its last words."""
UNREACHABLE_TOLERATION_S = 30
"""How long a node may be out of reach before its pod is given up; Kubernetes' own 300 s outlast most trials."""
MAX_LABEL_LENGTH, DRY_RUN_NAME = 63, "scaling-sweep-trial"
INDEX_SUFFIX_LENGTH = 6


def object_name(folder: Path) -> str:
    """The name of a trial's objects, by its folder below the sweep's: a DNS label with room for a pod's number."""
    normalized = re.sub(r"[^a-z0-9]+", "-", f"scaling-{folder.parent.name}-{folder.name}".lower())
    # The trial's own part is at the end, and makes it the only one of this name.
    most = MAX_LABEL_LENGTH - INDEX_SUFFIX_LENGTH
    return (normalized if len(normalized) <= most else f"scaling-{normalized[-(most - 8) :].lstrip('-')}").strip("-")


def sweep_label(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.parent.name)[:MAX_LABEL_LENGTH].strip("-_.")


def labels(name: str, sweep: str) -> dict[str, str]:
    """By which everything of ours is found again."""
    return {"app.kubernetes.io/managed-by": MANAGED_BY, SWEEP_LABEL: sweep, TRIAL_LABEL: name}


def render_job(
    case: Case, options: KubernetesOptions, name: str = DRY_RUN_NAME, sweep: str = "sweep"
) -> list[Manifest]:
    """ConfigMap, Service and Job of one trial."""
    return [
        config_map(case, metadata(options, name, sweep)),
        service(metadata(options, name, sweep)),
        job(case, options, metadata(options, name, sweep)),
    ]


def metadata(options: KubernetesOptions, name: str, sweep: str) -> Manifest:
    namespace = {} if options.namespace is None else {"namespace": options.namespace}
    return {"name": name, **namespace, "labels": labels(name, sweep)}


def config_map(case: Case, meta: Manifest) -> Manifest:
    """The case as a file for every pod."""
    text = case.model_dump_json(indent=1)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": {"case.json": text}}


def service(meta: Manifest) -> Manifest:
    """Gives the pods their DNS names: also before they are ready, since they get ready by meeting."""
    selector = {TRIAL_LABEL: meta["labels"][TRIAL_LABEL]}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def job(case: Case, options: KubernetesOptions, meta: Manifest) -> Manifest:
    """A pod that fails is not started again, and the others may end by their own words: each index is for itself."""
    name = meta["name"]
    spec = {
        "completionMode": "Indexed",
        "completions": case.nodes,
        "parallelism": case.nodes,
        "backoffLimitPerIndex": 0,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": active_deadline_s(case, options),
        "ttlSecondsAfterFinished": TTL_AFTER_FINISHED_S,
        "template": {"metadata": {"labels": meta["labels"]}, "spec": pod(case, options, name)},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def active_deadline_s(case: Case, options: KubernetesOptions) -> int:
    """After that the cluster ends it by itself, should the harness be gone; the harness ends it before."""
    return math.ceil(options.queue_timeout_s + case.timeout_s + 2 * MARGIN_S + TERMINATION_GRACE_S)


def pod(case: Case, options: KubernetesOptions, name: str) -> Manifest:
    """The pods' template. What a namespace with the restricted Pod Security Standard asks for is granted beforehand."""
    optional = {
        "nodeSelector": options.node_labels,
        "affinity": affinity(options, name) if case.nodes > 1 else {},
        "serviceAccountName": options.service_account,
    }
    return {
        "restartPolicy": "Never",
        "subdomain": name,
        # The pods ask nothing of the cluster; and its services would come as variables, some of them named SCALING_….
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        **{field: value for field, value in optional.items() if value},
        "tolerations": [*options.parsed_tolerations, *map(_temporary_toleration, ("not-ready", "unreachable"))],
        "containers": [container(case, options, container_environment(case, options, f"{name}-0.{name}"))],
        "volumes": volumes(options, name),
    }


def _temporary_toleration(trouble: str) -> Manifest:
    key = f"node.kubernetes.io/{trouble}"
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_TOLERATION_S}


def container(case: Case, options: KubernetesOptions, env: list[Manifest]) -> Manifest:
    resources = pod_resources(case, options)
    arguments = ("--case", f"{CASE_FOLDER}/case.json", "--out", RESULTS_FOLDER, "--transfer")
    return {
        "name": CONTAINER,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "command": node_command(*arguments, python=options.python),
        "env": env,
        # As much is guaranteed as is allowed: neighbours then take nothing away.
        **({"resources": {"requests": resources, "limits": resources}} if resources else {}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts(),
    }


def container_environment(case: Case, options: KubernetesOptions, rendezvous_host: str) -> list[Manifest]:
    """The container's variables. Each pod has a network of its own, so that one port does for all."""
    values = {
        "SCALING_NODES": str(case.nodes),
        "MASTER_ADDR": rendezvous_host,
        "MASTER_PORT": str(DEFAULT_PORT),
        "SCALING_AWAIT_S": f"{options.queue_timeout_s:g}",
        **({} if options.interface is None else {"SCALING_INTERFACE": options.interface}),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def pod_resources(case: Case, options: KubernetesOptions) -> dict[str, str]:
    gpus = gpus_per_pod(case, options)
    amounts = {"cpu": options.cpus, "memory": options.memory, GPU_RESOURCE: gpus or None}
    return {name: str(amount) for name, amount in amounts.items() if amount is not None}


def gpus_per_pod(case: Case, options: KubernetesOptions) -> int:
    if options.gpus is not None:
        return options.gpus
    return case.ranks_on_a_node if case.device == "cuda" else 0


def affinity(options: KubernetesOptions, name: str) -> Manifest:
    """Two pods of a trial are not on one node of the cluster: ranks across nodes are what was asked for."""
    anti_affinity_term = {"labelSelector": {"matchLabels": {TRIAL_LABEL: name}}, "topologyKey": HOSTNAME_LABEL}
    if options.spread == "required":
        return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [anti_affinity_term]}}
    if options.spread == "preferred":
        preferred_terms = [{"weight": 100, "podAffinityTerm": anti_affinity_term}]
        return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred_terms}}
    return {}


def volumes(options: KubernetesOptions, name: str) -> list[Manifest]:
    return [
        {"name": "case", "configMap": {"name": name}},
        {"name": "results", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": options.shm_size}},
    ]


def mounts() -> list[Manifest]:
    return [
        {"name": "case", "mountPath": CASE_FOLDER, "readOnly": True},
        {"name": "results", "mountPath": RESULTS_FOLDER},
        {"name": "shared-memory", "mountPath": SHARED_MEMORY},
    ]


def as_yaml(objects: Sequence[Manifest]) -> str:
    """One file of several documents, as ``kubectl apply -f`` takes it."""
    import yaml

    class Plain(yaml.SafeDumper):
        """The same value in two places is written twice: people read this."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def write(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Plain.add_representer(str, write)
    return str(yaml.dump_all(objects, Dumper=Plain, sort_keys=False, explicit_start=True, width=120))
