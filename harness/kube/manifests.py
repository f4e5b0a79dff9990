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

from bench.case import Case
from bench.place import DEFAULT_PORT
from harness.kube.options import KubernetesOptions
from harness.remote import MARGIN_S, node_command

Manifest = dict[str, Any]

OWNER = "scaling-harness"
SWEEP, TRIAL = f"{OWNER}/sweep", f"{OWNER}/trial"
GPU = "nvidia.com/gpu"
INDEX = "batch.kubernetes.io/job-completion-index"
HOST = "kubernetes.io/hostname"

CONTAINER = "node"
CASE_FOLDER, OUT_FOLDER, SHARED_MEMORY = "/case", "/results", "/dev/shm"
KEPT_S = 86_400
"""How long a job that has ended waits for a sweep that was interrupted; the cluster then forgets it by itself."""
GRACE_S = 10
"""How long a pod that is told to end may take for its last words."""
LOST_AFTER_S = 30
"""How long a node may be out of reach before its pod is given up; Kubernetes' own 300 s outlast most trials."""
LABEL_LENGTH, DRY_RUN = 63, "scaling-sweep-trial"
INDEX_LENGTH = 6


def name_of(folder: Path) -> str:
    """The name of a trial's objects, by its folder below the sweep's: a DNS label with room for a pod's number."""
    spelled = re.sub(r"[^a-z0-9]+", "-", f"scaling-{folder.parent.name}-{folder.name}".lower())
    # The trial's own part is at the end, and makes it the only one of this name.
    most = LABEL_LENGTH - INDEX_LENGTH
    return (spelled if len(spelled) <= most else f"scaling-{spelled[-(most - 8) :].lstrip('-')}").strip("-")


def sweep_label(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.parent.name)[:LABEL_LENGTH].strip("-_.")


def labels(name: str, sweep: str) -> dict[str, str]:
    """By which everything of ours is found again."""
    return {"app.kubernetes.io/managed-by": OWNER, SWEEP: sweep, TRIAL: name}


def render_job(case: Case, wishes: KubernetesOptions, name: str = DRY_RUN, sweep: str = "sweep") -> list[Manifest]:
    """ConfigMap, Service and Job of one trial."""
    return [
        config_map(case, metadata(wishes, name, sweep)),
        service(metadata(wishes, name, sweep)),
        job(case, wishes, metadata(wishes, name, sweep)),
    ]


def metadata(wishes: KubernetesOptions, name: str, sweep: str) -> Manifest:
    where = {} if wishes.namespace is None else {"namespace": wishes.namespace}
    return {"name": name, **where, "labels": labels(name, sweep)}


def config_map(case: Case, about: Manifest) -> Manifest:
    """The case as a file for every pod."""
    text = case.model_dump_json(indent=1)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "immutable": True, "data": {"case.json": text}}


def service(about: Manifest) -> Manifest:
    """Gives the pods their DNS names: also before they are ready, since they get ready by meeting."""
    selector = {TRIAL: about["labels"][TRIAL]}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}


def job(case: Case, wishes: KubernetesOptions, about: Manifest) -> Manifest:
    """A pod that fails is not started again, and the others may end by their own words: each index is for itself."""
    name = about["name"]
    spec = {
        "completionMode": "Indexed",
        "completions": case.nodes,
        "parallelism": case.nodes,
        "backoffLimitPerIndex": 0,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": longest_s(case, wishes),
        "ttlSecondsAfterFinished": KEPT_S,
        "template": {"metadata": {"labels": about["labels"]}, "spec": pod(case, wishes, name)},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}


def longest_s(case: Case, wishes: KubernetesOptions) -> int:
    """After that the cluster ends it by itself, should the harness be gone; the harness ends it before."""
    return math.ceil(wishes.queue_timeout_s + case.timeout_s + 2 * MARGIN_S + GRACE_S)


def pod(case: Case, wishes: KubernetesOptions, name: str) -> Manifest:
    """The pods' template. What a namespace with the restricted Pod Security Standard asks for is granted beforehand."""
    optional = {
        "nodeSelector": wishes.wanted_labels,
        "affinity": affinity(wishes, name) if case.nodes > 1 else {},
        "serviceAccountName": wishes.service_account,
    }
    return {
        "restartPolicy": "Never",
        "subdomain": name,
        # The pods ask nothing of the cluster; and its services would come as variables, some of them named SCALING_….
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        **{field: value for field, value in optional.items() if value},
        "tolerations": [*wishes.tolerated, *map(_tolerated_for_a_while, ("not-ready", "unreachable"))],
        "containers": [container(case, wishes, variables(case, wishes, f"{name}-0.{name}"))],
        "volumes": volumes(wishes, name),
    }


def _tolerated_for_a_while(trouble: str) -> Manifest:
    key = f"node.kubernetes.io/{trouble}"
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_AFTER_S}


def container(case: Case, wishes: KubernetesOptions, env: list[Manifest]) -> Manifest:
    resources = asked_of_a_node(case, wishes)
    arguments = ("--case", f"{CASE_FOLDER}/case.json", "--out", OUT_FOLDER, "--parcel")
    return {
        "name": CONTAINER,
        "image": wishes.image,
        "imagePullPolicy": wishes.image_pull_policy,
        "command": node_command(*arguments, python=wishes.python),
        "env": env,
        # As much is guaranteed as is allowed: neighbours then take nothing away.
        **({"resources": {"requests": resources, "limits": resources}} if resources else {}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts(),
    }


def variables(case: Case, wishes: KubernetesOptions, meeting_host: str) -> list[Manifest]:
    """The container's variables. Each pod has a network of its own, so that one port does for all."""
    named = {
        "SCALING_NODES": str(case.nodes),
        "MASTER_ADDR": meeting_host,
        "MASTER_PORT": str(DEFAULT_PORT),
        "SCALING_AWAIT_S": f"{wishes.queue_timeout_s:g}",
        **({} if wishes.interface is None else {"SCALING_INTERFACE": wishes.interface}),
    }
    return [{"name": name, "value": value} for name, value in named.items()]


def asked_of_a_node(case: Case, wishes: KubernetesOptions) -> dict[str, str]:
    gpus = gpus_of_a_node(case, wishes)
    asked = {"cpu": wishes.cpus, "memory": wishes.memory, GPU: gpus or None}
    return {name: str(amount) for name, amount in asked.items() if amount is not None}


def gpus_of_a_node(case: Case, wishes: KubernetesOptions) -> int:
    if wishes.gpus is not None:
        return wishes.gpus
    return case.ranks_on_a_node if case.device == "cuda" else 0


def affinity(wishes: KubernetesOptions, name: str) -> Manifest:
    """Two pods of a trial are not on one node of the cluster: ranks across nodes are what was asked for."""
    apart = {"labelSelector": {"matchLabels": {TRIAL: name}}, "topologyKey": HOST}
    if wishes.spread == "required":
        return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    if wishes.spread == "preferred":
        weighed = [{"weight": 100, "podAffinityTerm": apart}]
        return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighed}}
    return {}


def volumes(wishes: KubernetesOptions, name: str, results: Manifest | None = None) -> list[Manifest]:
    return [
        {"name": "case", "configMap": {"name": name}},
        {"name": "results", **(results or {"emptyDir": {}})},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": wishes.shm_size}},
    ]


def mounts() -> list[Manifest]:
    return [
        {"name": "case", "mountPath": CASE_FOLDER, "readOnly": True},
        {"name": "results", "mountPath": OUT_FOLDER},
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
