"""A Kubernetes cluster: a trial is an Indexed Job, a pod a node, and its records come back through the pods' logs."""

from __future__ import annotations

import re
from contextlib import suppress

from bench.backends import Options
from bench.case import Case, Role
from harness.errors import SiteError, UsageError
from harness.kube.checks import faults
from harness.kube.cluster import Cluster
from harness.kube.jobs import KubernetesJob
from harness.kube.kubeflow import render_mpijob, render_trainjob
from harness.kube.manifests import Manifest, as_yaml, gpus_of_a_node, name_of, render_job, sweep_label
from harness.kube.options import DNS_LABEL, KubernetesOptions
from harness.machines import Machine
from harness.sites import Asked, Job, Site

RENDERERS = {"job": render_job, "trainjob": render_trainjob, "mpijob": render_mpijob}
CONTROLLERS = {"trainjob": "Kubeflow Trainer (2.2 or later)", "mpijob": "Kubeflow's MPI Operator"}


class Kubernetes(Site):
    name = "kubernetes"
    summary = "pods of a Kubernetes cluster, an Indexed Job a trial"
    options = KubernetesOptions
    requires = ("kubernetes", "yaml")
    extra = "kubernetes"
    chosen: KubernetesOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self._cluster: Cluster | None = None

    def machine(self) -> Machine:
        chosen = self.chosen
        return Machine(site=self.name, spreads=True, cores=chosen.cpus, gpus=chosen.gpus or None, cuda_torch=True)

    def why_not(self, case: Case) -> str | None:
        if case.device == "cuda" and gpus_of_a_node(case, self.chosen) < case.ranks_on_a_node:
            wanted = f"--set kubernetes.gpus={case.ranks_on_a_node}, or leave it out"
            return f"{case.ranks_on_a_node} ranks a pod need as many GPUs: {wanted}"
        if case.net is not None:
            return "--net joins namespaces of one machine, not pods: leave it out"
        if case.transport == "mpi" and self.chosen.kind != "mpijob":
            return "mpirun starts these ranks: --set kubernetes.kind=mpijob, or another transport"
        if case.transport != "mpi" and self.chosen.kind == "mpijob":
            return "an MPIJob starts ranks by mpirun: --set horovod.transport=mpi"
        return self.lacking()

    def warm(self, modules: tuple[str, ...]) -> None:
        """Find out before anything is written that the cluster is there."""
        controller = CONTROLLERS.get(self.chosen.kind)
        if controller is not None:
            raise UsageError(f"kubernetes.kind = {self.chosen.kind}: needs {controller}, and is rendered by --dry-run "
                             "only (kubectl apply -f manifest.yaml); leave it out to run a Job")  # fmt: skip
        self.cluster.check()

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster.connect(self.chosen.context, self.chosen.namespace)
        return self._cluster

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        return {"manifest.yaml": as_yaml(_sound(RENDERERS[self.chosen.kind](case, self.chosen), case))}

    def start(self, asked: Asked) -> Job:
        name = name_of(asked.folder)
        objects = _sound(render_job(asked.case, self.chosen, name, sweep_label(asked.folder)), asked.case)
        try:
            self.cluster.create(objects)
        except BaseException:
            with suppress(SiteError):
                self.cluster.delete(name)
            raise
        return self._job(asked, name)

    def rejoin(self, asked: Asked, handle: str) -> Job | None:
        if not re.fullmatch(DNS_LABEL, handle) or not self.cluster.holds(handle):
            return None
        return self._job(asked, handle)

    def _job(self, asked: Asked, name: str) -> Job:
        return KubernetesJob(self.cluster, asked, name, self.chosen.queue_timeout_s)


def _sound(objects: list[Manifest], case: Case) -> list[Manifest]:
    """The objects. Raises :class:`SiteError` where a cluster would refuse them, or their pods never meet."""
    wrong = faults(objects, case)
    if wrong:
        raise SiteError(f"kubernetes: {'; '.join(wrong)}")
    return objects


SITE = Kubernetes()
