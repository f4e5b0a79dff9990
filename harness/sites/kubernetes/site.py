"""A Kubernetes cluster: a trial is an Indexed Job and a pod is a node. The pods' logs carry the records back."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cached_property

from bench.core.case import Case, Role
from bench.plugins.backend import Options
from harness.errors import SiteError
from harness.planning.placements import Machine
from harness.sites.base.contract import Job, Site, TrialRequest
from harness.sites.kubernetes.client import KubernetesClient
from harness.sites.kubernetes.job import KubernetesJob
from harness.sites.kubernetes.manifest_checks import manifest_problems
from harness.sites.kubernetes.manifests import Manifest, as_yaml, gpus_per_pod, object_name, render_job, sweep_label
from harness.sites.kubernetes.options import DNS_LABEL, KubernetesOptions, KubernetesTimeouts


class KubernetesSite(Site):
    name = "kubernetes"
    summary = "pods of a Kubernetes cluster, an Indexed Job a trial"
    options = KubernetesOptions
    requires = ("kubernetes", "yaml")
    extra = "kubernetes"
    chosen: KubernetesOptions

    def __init__(self, chosen: Options | None = None, timeouts: KubernetesTimeouts = KubernetesTimeouts()) -> None:
        super().__init__(chosen)
        self.timeouts = timeouts

    def machine(self) -> Machine:
        chosen = self.chosen
        return Machine(site=self.name, multi_node=True, cores=chosen.cpus, gpus=chosen.gpus or None, cuda_torch=True)

    def unavailable_reason(self, case: Case) -> str | None:
        if case.device == "cuda" and gpus_per_pod(case, self.chosen) < case.ranks_on_a_node:
            remedy = f"--set kubernetes.gpus={case.ranks_on_a_node}, or leave it out"
            return f"a pod of {case.ranks_on_a_node} ranks needs as many GPUs: {remedy}"
        if case.net is not None:
            return "--net connects network namespaces of one machine, not pods: leave it out"
        return self.missing_dependency()

    def warm(self, modules: tuple[str, ...]) -> None:
        """Check that the cluster answers, before anything is written."""
        self.cluster.check()

    @cached_property
    def cluster(self) -> KubernetesClient:
        """The connection to the cluster. Raises :class:`SiteError` where there is no usable kubeconfig."""
        return KubernetesClient.connect(self.chosen.context, self.chosen.namespace, self.timeouts)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        return {"manifest.yaml": as_yaml(_checked(render_job(case, self.chosen), case))}

    def start(self, trial: TrialRequest) -> Job:
        name = object_name(trial.folder)
        objects = _checked(render_job(trial.case, self.chosen, name, sweep_label(trial.folder)), trial.case)
        try:
            self.cluster.create(objects)
        except BaseException:
            with suppress(SiteError):
                self.cluster.delete(name)
            raise
        return self._job(trial, name)

    def reattach(self, trial: TrialRequest, handle: str) -> Job | None:
        if not re.fullmatch(DNS_LABEL, handle) or not self.cluster.job_exists(handle):
            return None
        return self._job(trial, handle)

    def _job(self, trial: TrialRequest, name: str) -> Job:
        return KubernetesJob(self.cluster, trial, name, self.chosen.queue_timeout_s)


def _checked(objects: list[Manifest], case: Case) -> list[Manifest]:
    """The objects. Raises :class:`SiteError` where a cluster would reject them, or their pods would not find each
    other."""
    problems = manifest_problems(objects, case)
    if problems:
        raise SiteError(f"kubernetes: {'; '.join(problems)}")
    return objects


SITE = KubernetesSite()
