"""A Kubernetes cluster: an Indexed Job runs the trials of a round one after another, and a pod is a node."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from bench.core.case import Case, Role
from bench.host.certificate import create_certificate
from bench.plugins.backend import Options
from harness.errors import SiteError
from harness.interrupts import interrupts_allowed
from harness.planning.placements import Machine
from harness.sites.base.contract import Job, Site, TrialRequest
from harness.sites.base.packed import PackedTrial, Round, batches_by, listed_bytes
from harness.sites.base.remote import needs_certificate
from harness.sites.kubernetes.client import KubernetesClient
from harness.sites.kubernetes.job import KubernetesJob
from harness.sites.kubernetes.manifest_checks import MAX_CONFIG_MAP_BYTES, manifest_problems
from harness.sites.kubernetes.manifests import (
    Manifest,
    as_yaml,
    gpus_per_pod,
    object_name,
    render_job,
    sweep_label,
)
from harness.sites.kubernetes.options import DNS_LABEL, KubernetesOptions, KubernetesTimeouts

CERTIFICATE_PLACEHOLDER = "a certificate with its private key, made when the trial is submitted\n"


class KubernetesSite(Site):
    name = "kubernetes"
    summary = "pods of a Kubernetes cluster, an Indexed Job a round"
    options = KubernetesOptions
    requires = ("kubernetes", "yaml")
    extra = "kubernetes"
    chosen: KubernetesOptions

    def __init__(self, chosen: Options | None = None, timeouts: KubernetesTimeouts = KubernetesTimeouts()) -> None:
        super().__init__(chosen)
        self.timeouts = timeouts
        self._modules: tuple[str, ...] = ()
        """What ranks of the sweep import beside the frameworks."""
        self._reattached: dict[str, Round[KubernetesJob]] = {}
        """The jobs of an interrupted sweep, by name."""

    def machine(self) -> Machine:
        chosen = self.chosen
        return Machine(
            site=self.name,
            multi_node=True,
            cores=chosen.cpus,
            gpus=chosen.gpus or None,
            cuda_torch=True,
            ranks_per_gpu=chosen.ranks_per_gpu,
        )

    def unavailable_reason(self, case: Case) -> str | None:
        if gpus_per_pod(case, self.chosen) < case.gpus_on_a_node:
            remedy = f"--set kubernetes.gpus={case.gpus_on_a_node}, or leave it out"
            return f"a pod of {case.ranks_on_a_node} ranks needs {case.gpus_on_a_node} GPUs: {remedy}"
        if case.net is not None:
            return "--net connects network namespaces of one machine, not pods: leave it out"
        return self.missing_dependency()

    def warm(self, modules: tuple[str, ...]) -> None:
        """Check that the cluster answers, before anything is written."""
        self._modules = modules
        self.cluster.check()

    @cached_property
    def cluster(self) -> KubernetesClient:
        """The connection to the cluster. Raises :class:`SiteError` where there is no usable kubeconfig."""
        return KubernetesClient.connect(self.chosen.context, self.chosen.namespace, self.timeouts)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        trials = [TrialRequest(case, roles, Path("trial"))]
        certificate = CERTIFICATE_PLACEHOLDER if needs_certificate(case, roles) else None
        return {"manifest.yaml": as_yaml(_checked(render_job(trials, self.chosen, certificate=certificate), case))}

    def batches(self, cases: Sequence[Case]) -> list[list[Case]]:
        return batches_by(cases, self._shape, listed_bytes, MAX_CONFIG_MAP_BYTES)

    def _shape(self, case: Case) -> tuple[Hashable, ...]:
        return case.nodes, case.ranks_on_a_node, gpus_per_pod(case, self.chosen)

    @property
    def submits_rounds(self) -> bool:
        return self.chosen.pack

    def start(self, trial: TrialRequest) -> Job:
        return self.submit_round([trial])[0]

    def submit_round(self, trials: Sequence[TrialRequest]) -> list[Job]:
        packed = Round(self._submit(trials), trials, self._submit)
        return [PackedTrial(packed, trial) for trial in trials]

    def _submit(self, trials: Sequence[TrialRequest]) -> KubernetesJob:
        folder = trials[0].folder
        name = object_name(folder)
        certified = any(needs_certificate(trial.case, trial.roles) for trial in trials)
        certificate = create_certificate() if certified else None
        objects = render_job(trials, self.chosen, name, sweep_label(folder), certificate, self._modules)
        _checked(objects, trials[0].case)
        try:
            with interrupts_allowed():
                self.cluster.create(objects)
        except BaseException:
            with suppress(SiteError):
                self.cluster.delete(name)
            raise
        return KubernetesJob(self.cluster, name, trials, self.chosen.queue_timeout_s)

    def reattach(self, trial: TrialRequest, handle: str) -> Job | None:
        if not re.fullmatch(DNS_LABEL, handle) or not self.cluster.job_exists(handle):
            return None
        found = self._reattached.get(handle)
        if found is None:
            job = KubernetesJob(self.cluster, handle, [trial], self.chosen.queue_timeout_s, reattached=True)
            found = self._reattached[handle] = Round(job, [trial], self._submit)
        else:
            found.job.add(trial)
            found.trials.append(trial)
        return PackedTrial(found, trial)


def _checked(objects: list[Manifest], case: Case) -> list[Manifest]:
    """The objects. Raises :class:`SiteError` where a cluster would reject them, or their pods would not find each
    other."""
    problems = manifest_problems(objects, case)
    if problems:
        raise SiteError(f"kubernetes: {'; '.join(problems)}")
    return objects


SITE = KubernetesSite()
