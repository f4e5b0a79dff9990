"""Trials as Kubernetes objects: an Indexed Job with a pod for each node, which runs them one after another, and a
headless Service by which the pods find pod 0 (pure).

A Deployment is not possible: API servers reject one whose pods are not always restarted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.host.certificate import CERTIFICATE_FILE
from bench.node.rendezvous import DEFAULT_PORT
from harness.sites.base.contract import TrialRequest
from harness.sites.base.packed import listed_trial, preload_arguments, trial_list
from harness.sites.base.remote import MARGIN_S, node_command
from harness.sites.kubernetes.options import KubernetesOptions

Manifest = dict[str, Any]

MANAGED_BY = "scaling-harness"
SWEEP_LABEL, TRIAL_LABEL = f"{MANAGED_BY}/sweep", f"{MANAGED_BY}/trial"
GPU_RESOURCE = "nvidia.com/gpu"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
HOSTNAME_LABEL = "kubernetes.io/hostname"

CONTAINER = "node"
CASE_FOLDER, CERTIFICATE_FOLDER, RESULTS_FOLDER, SHARED_MEMORY = "/case", "/certificate", "/results", "/dev/shm"
TRIALS_FILE = "trials.json"
TTL_AFTER_FINISHED_S = 86_400
"""How long a job that has ended is kept for an interrupted sweep, before the cluster deletes it."""
TERMINATION_GRACE_S = 10
"""How long a pod may take after SIGTERM, to report."""
UNREACHABLE_TOLERATION_S = 30
"""How long a node may be unreachable before its pod is evicted; Kubernetes' default of 300 s exceeds most trials."""
MAX_LABEL_LENGTH, DRY_RUN_NAME = 63, "scaling-sweep-trial"
INDEX_SUFFIX_LENGTH = 6


def object_name(folder: Path) -> str:
    """The name of a trial's objects, from its folder in the sweep's folder: a DNS label with room for a pod's index."""
    normalized = re.sub(r"[^a-z0-9]+", "-", f"scaling-{folder.parent.name}-{folder.name}".lower())
    # The end is kept: the trial's own part makes the name unique.
    most = MAX_LABEL_LENGTH - INDEX_SUFFIX_LENGTH
    return (normalized if len(normalized) <= most else f"scaling-{normalized[-(most - 8) :].lstrip('-')}").strip("-")


def sweep_label(folder: Path) -> str:
    """The value of the sweep's label, from a trial's folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.parent.name)[:MAX_LABEL_LENGTH].strip("-_.")


def labels(name: str, sweep: str) -> dict[str, str]:
    """The labels by which a trial's objects are found."""
    return {"app.kubernetes.io/managed-by": MANAGED_BY, SWEEP_LABEL: sweep, TRIAL_LABEL: name}


def render_job(
    trials: Sequence[TrialRequest],
    options: KubernetesOptions,
    name: str = DRY_RUN_NAME,
    sweep: str = "sweep",
    certificate: str | None = None,
    modules: Sequence[str] = (),
) -> list[Manifest]:
    """ConfigMap, Service and Job of trials, and a Secret where their pods need a certificate in common.

    Args:
        trials: They need the same pods.
        options: Of the site.
        name: That of all objects.
        sweep: The label of the sweep.
        certificate: The text of the certificate's file; ``None``: the pods need none.
        modules: Those of backends, which the agents import once beside the frameworks.
    """
    command = agent_command([trial.case for trial in trials], options, modules, certified=certificate is not None)
    return [
        config_map(trials, metadata(options, name, sweep)),
        *([] if certificate is None else [secret(certificate, metadata(options, name, sweep))]),
        service(metadata(options, name, sweep)),
        job([trial.case for trial in trials], options, command, metadata(options, name, sweep)),
    ]


def metadata(options: KubernetesOptions, name: str, sweep: str) -> Manifest:
    namespace = {} if options.namespace is None else {"namespace": options.namespace}
    return {"name": name, **namespace, "labels": labels(name, sweep)}


def agent_command(
    cases: Sequence[Case], options: KubernetesOptions, modules: Sequence[str], *, certified: bool
) -> list[str]:
    """The argument list of the pods' agents."""
    certificate = ("--certificate", f"{CERTIFICATE_FOLDER}/{CERTIFICATE_FILE}") if certified else ()
    arguments = ("--trials", f"{CASE_FOLDER}/{TRIALS_FILE}", *certificate, "--out", RESULTS_FOLDER)
    return node_command(*arguments, *preload_arguments(cases, modules), python=options.python)


def config_map(trials: Sequence[TrialRequest], meta: Manifest) -> Manifest:
    """The trials as a file for every pod."""
    text = trial_list([listed_trial(trial, trial.case, fresh=True) for trial in trials])
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": {TRIALS_FILE: text}}


def secret(certificate: str, meta: Manifest) -> Manifest:
    """The certificate by which the pods recognise each other."""
    data = {CERTIFICATE_FILE: certificate}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "immutable": True, "stringData": data}


def service(meta: Manifest) -> Manifest:
    """It gives the pods their DNS names, also before they are ready: they need the names to get ready."""
    selector = {TRIAL_LABEL: meta["labels"][TRIAL_LABEL]}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def job(cases: Sequence[Case], options: KubernetesOptions, command: list[str], meta: Manifest) -> Manifest:
    """The Job. A pod that fails is not restarted, and the other pods run on, so that they can report."""
    spec = {
        "completionMode": "Indexed",
        "completions": cases[0].nodes,
        "parallelism": cases[0].nodes,
        "backoffLimitPerIndex": 0,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": active_deadline_s(cases, options),
        "ttlSecondsAfterFinished": TTL_AFTER_FINISHED_S,
        "template": {"metadata": {"labels": meta["labels"]}, "spec": pod(cases[0], options, command, meta["name"])},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def active_deadline_s(cases: Sequence[Case], options: KubernetesOptions) -> int:
    """After this time the cluster itself ends the job; the harness, while it runs, ends it earlier."""
    trials_s = sum(case.timeout_s + MARGIN_S for case in cases)
    return math.ceil(options.queue_timeout_s + trials_s + MARGIN_S + TERMINATION_GRACE_S)


def pod(case: Case, options: KubernetesOptions, command: list[str], name: str) -> Manifest:
    """The spec of the pods, which satisfies the restricted Pod Security Standard."""
    certified = "--certificate" in command
    optional = {
        "nodeSelector": options.node_labels,
        "affinity": affinity(options, name) if case.nodes > 1 else {},
        "serviceAccountName": options.service_account,
    }
    return {
        "restartPolicy": "Never",
        "subdomain": name,
        # The pods send no request to the API. Service links would add variables, some of which begin with SCALING_.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        **{field: value for field, value in optional.items() if value},
        "tolerations": [*options.parsed_tolerations, *map(_temporary_toleration, ("not-ready", "unreachable"))],
        "containers": [
            container(
                case, options, command, container_environment(case, options, f"{name}-0.{name}"), certified=certified
            )
        ],
        "volumes": volumes(options, name, certified=certified),
    }


def _temporary_toleration(trouble: str) -> Manifest:
    key = f"node.kubernetes.io/{trouble}"
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_TOLERATION_S}


def container(
    case: Case, options: KubernetesOptions, command: list[str], env: list[Manifest], *, certified: bool = False
) -> Manifest:
    resources = pod_resources(case, options)
    return {
        "name": CONTAINER,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "command": command,
        "env": env,
        # Requests equal limits: other pods can't take any of it.
        **({"resources": {"requests": resources, "limits": resources}} if resources else {}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts(certified=certified),
    }


def container_environment(case: Case, options: KubernetesOptions, rendezvous_host: str) -> list[Manifest]:
    """The container's variables. Each trial has a port of its own besides."""
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
    return case.gpus_on_a_node


def affinity(options: KubernetesOptions, name: str) -> Manifest:
    """Keeps the pods of a trial on different nodes of the cluster."""
    anti_affinity_term = {"labelSelector": {"matchLabels": {TRIAL_LABEL: name}}, "topologyKey": HOSTNAME_LABEL}
    if options.spread == "required":
        return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [anti_affinity_term]}}
    if options.spread == "preferred":
        preferred_terms = [{"weight": 100, "podAffinityTerm": anti_affinity_term}]
        return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred_terms}}
    return {}


def volumes(options: KubernetesOptions, name: str, *, certified: bool = False) -> list[Manifest]:
    return [
        {"name": "case", "configMap": {"name": name}},
        *([{"name": "certificate", "secret": {"secretName": name}}] if certified else []),
        {"name": "results", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": options.shm_size}},
    ]


def mounts(*, certified: bool = False) -> list[Manifest]:
    return [
        {"name": "case", "mountPath": CASE_FOLDER, "readOnly": True},
        *([{"name": "certificate", "mountPath": CERTIFICATE_FOLDER, "readOnly": True}] if certified else []),
        {"name": "results", "mountPath": RESULTS_FOLDER},
        {"name": "shared-memory", "mountPath": SHARED_MEMORY},
    ]


def as_yaml(objects: Sequence[Manifest]) -> str:
    """A file of several documents, for ``kubectl apply -f``."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes a value that occurs twice twice, for human readers."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def write(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Plain.add_representer(str, write)
    return str(yaml.dump_all(objects, Dumper=Plain, sort_keys=False, explicit_start=True, width=120))
