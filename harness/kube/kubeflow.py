"""A trial as Kubeflow's objects: a TrainJob (Trainer 2.2 or later) or an MPIJob (MPI Operator). They are rendered,
not run: their controllers turn them into pods, and only a cluster that has those can tell how it went.
"""

from __future__ import annotations

from bench.case import Case
from harness.kube.manifests import (
    CASE_FOLDER,
    CONTAINER,
    DRY_RUN,
    KEPT_S,
    OUT_FOLDER,
    OWNER,
    Manifest,
    asked_of_a_node,
    config_map,
    container,
    longest_s,
    metadata,
    mounts,
    pod,
    variables,
    volumes,
)
from harness.kube.options import KubernetesOptions

TRAINER = "trainer.kubeflow.org"
REPLICATED_JOB = "node"
"""What Kubeflow's runtimes call the job that trains, and the container in it."""


def render_trainjob(case: Case, wishes: KubernetesOptions, name: str = DRY_RUN, sweep: str = "sweep") -> list[Manifest]:
    """ConfigMap and TrainJob. Its pods are a JobSet's, which names them and makes the headless Service."""
    about = metadata(wishes, name, sweep)
    resources = asked_of_a_node(case, wishes)
    whole = container(case, wishes, variables(case, wishes, f"{name}-{REPLICATED_JOB}-0-0.{name}"))
    trainer = {
        "image": wishes.image,
        "command": whole["command"],
        "env": whole["env"],
        "numNodes": case.nodes,
        "numProcPerNode": case.ranks_on_a_node,
        **({"resourcesPerNode": {"requests": resources, "limits": resources}} if resources else {}),
    }
    spec = {
        "runtimeRef": {"apiGroup": TRAINER, "kind": "ClusterTrainingRuntime", "name": wishes.runtime},
        "trainer": trainer,
        "activeDeadlineSeconds": longest_s(case, wishes),
        "runtimePatches": [{"manager": OWNER, "trainingRuntimeSpec": _patch(case, wishes, about)}],
    }
    train = {"apiVersion": f"{TRAINER}/v1alpha1", "kind": "TrainJob", "metadata": about, "spec": spec}
    return [config_map(case, metadata(wishes, name, sweep)), train]


def _patch(case: Case, wishes: KubernetesOptions, about: Manifest) -> Manifest:
    """What of our pods a TrainJob may lay over its runtime's."""
    whole = pod(case, wishes, about["name"])
    allowed = ("nodeSelector", "affinity", "tolerations", "serviceAccountName", "volumes", "securityContext")
    laid_over = {field: whole[field] for field in allowed if field in whole}
    laid_over["containers"] = [{"name": CONTAINER, "volumeMounts": mounts()}]
    template = {"metadata": {"labels": about["labels"]}, "spec": laid_over}
    replicated = {"name": REPLICATED_JOB, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [replicated]}}}


def render_mpijob(case: Case, wishes: KubernetesOptions, name: str = DRY_RUN, sweep: str = "sweep") -> list[Manifest]:
    """ConfigMap and MPIJob: workers that wait behind sshd (which the image must have), and a launcher with mpirun.
    Records go to a volume that all of them share."""
    about = metadata(wishes, name, sweep)
    spec = {
        "slotsPerWorker": case.ranks_on_a_node,
        "mpiImplementation": "OpenMPI",
        "runPolicy": {
            "cleanPodPolicy": "All",
            "backoffLimit": 0,
            "activeDeadlineSeconds": longest_s(case, wishes),
            "ttlSecondsAfterFinished": KEPT_S,
        },
        "mpiReplicaSpecs": {
            "Launcher": _replica(case, wishes, about, 1, mpirun(case, wishes)),
            "Worker": _replica(case, wishes, about, case.nodes, ["/usr/sbin/sshd", "-De"]),
        },
    }
    mpi = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": about, "spec": spec}
    return [config_map(case, metadata(wishes, name, sweep)), mpi]


def mpirun(case: Case, wishes: KubernetesOptions) -> list[str]:
    """Ranks are not bound: the threads of a rank would share one core."""
    return [
        "mpirun", "--bind-to", "none", "-np", str(case.ranks),
        wishes.python, "-m", "bench.worker", "--case", f"{CASE_FOLDER}/case.json", "--role", "rank",
        "--out", OUT_FOLDER,
    ]  # fmt: skip


def _replica(case: Case, wishes: KubernetesOptions, about: Manifest, count: int, command: list[str]) -> Manifest:
    name = about["name"]
    launches = command[0] == "mpirun"
    whole = pod(case, wishes, name)
    inside = container(case, wishes, [])
    # The launcher computes nothing, and may share a node with a worker.
    left_out = {"env", "resources"} if launches else {"env"}
    shared = {"persistentVolumeClaim": {"claimName": wishes.results_claim}}
    spec = {
        **{field: value for field, value in whole.items() if field not in ("subdomain", *(["affinity"] * launches))},
        "containers": [{**{key: value for key, value in inside.items() if key not in left_out}, "command": command}],
        "volumes": volumes(wishes, name, shared),
    }
    template = {"metadata": {"labels": about["labels"]}, "spec": spec}
    return {"replicas": count, "restartPolicy": "Never", "template": template}
