"""A trial as Kubeflow's objects: a TrainJob (Trainer 2.2 or later) or an MPIJob (MPI Operator). They are rendered,
not run: their controllers turn them into pods, and only a cluster that has those can tell how it went.
"""

from __future__ import annotations

from bench.core.case import Case
from harness.sites.kubernetes.manifests import (
    CASE_FOLDER,
    CONTAINER,
    DRY_RUN_NAME,
    MANAGED_BY,
    RESULTS_FOLDER,
    TTL_AFTER_FINISHED_S,
    Manifest,
    active_deadline_s,
    config_map,
    container,
    container_environment,
    metadata,
    mounts,
    pod,
    pod_resources,
    volumes,
)
from harness.sites.kubernetes.options import KubernetesOptions

TRAINER_API = "trainer.kubeflow.org"
REPLICATED_JOB = "node"
"""What Kubeflow's runtimes call the job that trains, and the container in it."""


def render_trainjob(
    case: Case, options: KubernetesOptions, name: str = DRY_RUN_NAME, sweep: str = "sweep"
) -> list[Manifest]:
    """ConfigMap and TrainJob. Its pods are a JobSet's, which names them and makes the headless Service."""
    meta = metadata(options, name, sweep)
    resources = pod_resources(case, options)
    whole = container(case, options, container_environment(case, options, f"{name}-{REPLICATED_JOB}-0-0.{name}"))
    trainer = {
        "image": options.image,
        "command": whole["command"],
        "env": whole["env"],
        "numNodes": case.nodes,
        "numProcPerNode": case.ranks_on_a_node,
        **({"resourcesPerNode": {"requests": resources, "limits": resources}} if resources else {}),
    }
    spec = {
        "runtimeRef": {"apiGroup": TRAINER_API, "kind": "ClusterTrainingRuntime", "name": options.runtime},
        "trainer": trainer,
        "activeDeadlineSeconds": active_deadline_s(case, options),
        "runtimePatches": [{"manager": MANAGED_BY, "trainingRuntimeSpec": _patch(case, options, meta)}],
    }
    train = {"apiVersion": f"{TRAINER_API}/v1alpha1", "kind": "TrainJob", "metadata": meta, "spec": spec}
    return [config_map(case, metadata(options, name, sweep)), train]


def _patch(case: Case, options: KubernetesOptions, meta: Manifest) -> Manifest:
    """What of our pods a TrainJob may lay over its runtime's."""
    whole = pod(case, options, meta["name"])
    allowed = ("nodeSelector", "affinity", "tolerations", "serviceAccountName", "volumes", "securityContext")
    patch = {field: whole[field] for field in allowed if field in whole}
    patch["containers"] = [{"name": CONTAINER, "volumeMounts": mounts()}]
    template = {"metadata": {"labels": meta["labels"]}, "spec": patch}
    replicated = {"name": REPLICATED_JOB, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [replicated]}}}


def render_mpijob(
    case: Case, options: KubernetesOptions, name: str = DRY_RUN_NAME, sweep: str = "sweep"
) -> list[Manifest]:
    """ConfigMap and MPIJob: workers that wait behind sshd (which the image must have), and a launcher with mpirun.
    Records go to a volume that all of them share."""
    meta = metadata(options, name, sweep)
    spec = {
        "slotsPerWorker": case.ranks_on_a_node,
        "mpiImplementation": "OpenMPI",
        "runPolicy": {
            "cleanPodPolicy": "All",
            "backoffLimit": 0,
            "activeDeadlineSeconds": active_deadline_s(case, options),
            "ttlSecondsAfterFinished": TTL_AFTER_FINISHED_S,
        },
        "mpiReplicaSpecs": {
            "Launcher": _replica(case, options, meta, 1, mpirun_command(case, options)),
            "Worker": _replica(case, options, meta, case.nodes, ["/usr/sbin/sshd", "-De"]),
        },
    }
    mpi = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": meta, "spec": spec}
    return [config_map(case, metadata(options, name, sweep)), mpi]


def mpirun_command(case: Case, options: KubernetesOptions) -> list[str]:
    """Ranks are not bound: the threads of a rank would share one core."""
    return [
        "mpirun",
        "--bind-to",
        "none",
        "-np",
        str(case.ranks),
        options.python,
        "-m",
        "bench.rank.worker",
        "--case",
        f"{CASE_FOLDER}/case.json",
        "--role",
        "rank",
        "--out",
        RESULTS_FOLDER,
    ]


def _replica(case: Case, options: KubernetesOptions, meta: Manifest, count: int, command: list[str]) -> Manifest:
    name = meta["name"]
    is_launcher = command[0] == "mpirun"
    whole = pod(case, options, name)
    base_container = container(case, options, [])
    # The launcher computes nothing, and may share a node with a worker.
    omitted = {"env", "resources"} if is_launcher else {"env"}
    shared = {"persistentVolumeClaim": {"claimName": options.results_claim}}
    spec = {
        **{field: value for field, value in whole.items() if field not in ("subdomain", *(["affinity"] * is_launcher))},
        "containers": [
            {**{key: value for key, value in base_container.items() if key not in omitted}, "command": command}
        ],
        "volumes": volumes(options, name, shared),
    }
    template = {"metadata": {"labels": meta["labels"]}, "spec": spec}
    return {"replicas": count, "restartPolicy": "Never", "template": template}
