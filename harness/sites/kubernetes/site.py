"""A Kubernetes cluster: a trial is an Indexed Job and a pod is a node. The pods' logs carry the records back."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property

from bench.core.case import Case, Role
from bench.host.certificate import create_certificate
from bench.node.transfer import TransferError, TransferReceiver
from bench.plugins.backend import Options
from harness.errors import SiteError
from harness.interrupts import interrupts_allowed
from harness.planning.placements import Machine
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult
from harness.sites.base.remote import LostNode, gather_result, needs_certificate, read_node_reports
from harness.sites.kubernetes.client import KubernetesClient, KubernetesError
from harness.sites.kubernetes.manifest_checks import manifest_problems
from harness.sites.kubernetes.manifests import (
    TERMINATION_GRACE_S,
    Manifest,
    as_yaml,
    gpus_per_pod,
    object_name,
    render_job,
    sweep_label,
)
from harness.sites.kubernetes.options import DNS_LABEL, KubernetesOptions, KubernetesTimeouts
from harness.sites.kubernetes.pods import Pod, TrialPhase, deleted_pod, pending_reason, trial_phase

TAIL_LINES = 20
CERTIFICATE_PLACEHOLDER = "a certificate with its private key, made when the trial is submitted\n"


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
        self.cluster.check()

    @cached_property
    def cluster(self) -> KubernetesClient:
        """The connection to the cluster. Raises :class:`SiteError` where there is no usable kubeconfig."""
        return KubernetesClient.connect(self.chosen.context, self.chosen.namespace, self.timeouts)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        certificate = CERTIFICATE_PLACEHOLDER if needs_certificate(case, roles) else None
        objects = render_job(case, self.chosen, certificate=certificate)
        return {"manifest.yaml": as_yaml(_checked(objects, case))}

    def start(self, trial: TrialRequest) -> Job:
        name = object_name(trial.folder)
        certificate = create_certificate() if needs_certificate(trial.case, trial.roles) else None
        objects = render_job(trial.case, self.chosen, name, sweep_label(trial.folder), certificate)
        _checked(objects, trial.case)
        try:
            with interrupts_allowed():
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


class KubernetesJob(Job):
    """The pods of one trial, by their completion index.

    Args:
        cluster: The namespace that they run in.
        trial: Its folder receives what the pods leave.
        name: The name of the trial's objects.
        queue_timeout_s: How long the pods may wait for a node and their image.
    """

    def __init__(self, cluster: KubernetesClient, trial: TrialRequest, name: str, queue_timeout_s: float) -> None:
        self.cluster, self.case, self.folder = cluster, trial.case, trial.folder
        self.timeouts, self.queue_timeout_s = cluster.timeouts, queue_timeout_s
        self.name = self.handle = name
        self.pods: dict[int, Pod] = {}
        self.tails: dict[int, deque[str]] = {}
        self.receiver = TransferReceiver(trial.folder)
        self.ended = False

    def wait(self, timeout_s: float) -> TrialResult:
        try:
            phase = self._await_end(timeout_s)
            if phase in ("queued", "cannot start"):
                return TrialResult("failed", self._start_failure(phase), (), (), self._log_tail())
            if phase != "over":
                self._delete_and_read_logs()
            return gather_result(
                self.folder, self.case, self._lost(), timed_out=phase == "running", log_tail=self._log_tail()
            )
        finally:
            self.cancel()

    def _await_end(self, timeout_s: float) -> TrialPhase:
        """The phase of the trial in which there is nothing left to wait for."""
        limits_s: Mapping[TrialPhase, float] = {
            "queued": self.queue_timeout_s,
            "running": timeout_s + self.timeouts.report_s,
            "failing": self.timeouts.exit_grace_s,
        }
        since: dict[TrialPhase, float] = {}
        last_answer = time.monotonic()
        while True:
            try:
                version = self._update_pods()
                now = last_answer = time.monotonic()
                phase = trial_phase(self.pods.values(), self.case.nodes)
                left_s = limits_s.get(phase, 0.0) - (now - since.setdefault(phase, now))
                if left_s <= 0:
                    return phase
                self.cluster.wait_for_change(self.name, version, min(self.timeouts.poll_s, left_s))
            except KubernetesError as error:
                if not error.transient or time.monotonic() - last_answer > self.timeouts.unreachable_s:
                    raise
            time.sleep(self.timeouts.debounce_s)

    def _update_pods(self) -> str:
        """List the pods, and read the logs of those that have ended; returns the resource version of the list."""
        pods_there, version = self.cluster.pods(self.name)
        current = {pod.node: pod for pod in pods_there}
        for node, before in self.pods.items():
            current.setdefault(node, deleted_pod(before))
        for node, pod in current.items():
            if pod.over and not (node in self.pods and self.pods[node].over):
                # A pod on a node that is gone may have no log.
                with suppress(KubernetesError):
                    self.cluster.retry(self._read_log, pod)
        self.pods = dict(sorted(current.items()))
        return version

    def _read_log(self, pod: Pod) -> None:
        self._consume_log(pod.node, self.cluster.log(pod.name))

    def _consume_log(self, node: int, lines: Iterable[str]) -> None:
        """Put transferred files into the trial's folder; of all other lines, keep the last ones."""
        tail = self.tails[node] = deque(maxlen=TAIL_LINES)
        for line in lines:
            try:
                if not self.receiver.take(line):
                    tail.append(line)
            except TransferError as problem:
                tail.append(str(problem))

    def _delete_and_read_logs(self) -> None:
        """Delete the trial while following the logs of the pods that still run: they report before they end."""
        followed_logs = []
        for pod in self.pods.values():
            if not pod.over:
                with suppress(KubernetesError):
                    followed_logs.append((pod.node, self.cluster.follow_log(pod.name)))
        self.cluster.delete(self.name)
        for node, lines in followed_logs:
            with suppress(KubernetesError):
                self._consume_log(node, lines)

    def _start_failure(self, phase: TrialPhase) -> str:
        reason = pending_reason(self.pods.values(), self.case.nodes)
        if len(self.pods) < self.case.nodes and (warning := self.cluster.last_warning(self.name)):
            reason = f"{reason}: {warning}"
        if phase == "cannot start":
            return reason
        return f"not all pods started within {self.queue_timeout_s:g} s; {reason}"

    def _lost(self) -> list[LostNode]:
        """The nodes whose pod failed without a report."""
        reported = read_node_reports(self.folder)
        return [
            LostNode(node, pod.host or pod.name, pod.reason or "its pod failed")
            for node, pod in self.pods.items()
            if pod.ended_badly and node not in reported
        ]

    def _log_tail(self) -> tuple[str, ...]:
        return tuple(f"pod {node}: {line}" for node, tail in sorted(self.tails.items()) for line in tail)

    def cancel(self) -> None:
        """Delete all objects and wait until the pods have gone: the next trial may run on the same machines."""
        if self.ended:
            return
        self.cluster.delete(self.name)
        self.ended = True
        deadline = time.monotonic() + TERMINATION_GRACE_S + self.timeouts.poll_s
        with suppress(KubernetesError):
            while (left_s := deadline - time.monotonic()) > 0:
                pods_there, version = self.cluster.pods(self.name)
                if not pods_there:
                    return
                self.cluster.wait_for_change(self.name, version, min(self.timeouts.poll_s, left_s))


SITE = KubernetesSite()
