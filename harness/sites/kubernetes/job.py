"""An Indexed Job in the cluster: its pods run trials one after another, and their logs carry the records back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from bench.node.transfer import TransferError, TransferReceiver, split_trial
from bench.node.trial_feed import BEGAN_LINE, ENDED_LINE
from harness.sites.base.contract import TrialRequest, TrialResult
from harness.sites.base.packed import PackedJob
from harness.sites.base.remote import LostNode, failed_start, gather_result, read_node_reports
from harness.sites.kubernetes.client import KubernetesClient, KubernetesError
from harness.sites.kubernetes.manifests import TERMINATION_GRACE_S
from harness.sites.kubernetes.pod_logs import LogLine, PodLogs
from harness.sites.kubernetes.pods import Pod, TrialPhase, deleted_pod, pending_reason, trial_phase

TAIL_LINES = 20

PartPhase = TrialPhase | Literal["answered"]
"""``answered``: all pods have answered that their part of the trial succeeded."""


@dataclass
class TrialOfJob:
    """What has come back of a trial."""

    request: TrialRequest
    receiver: TransferReceiver
    began: bool = False
    answers: dict[int, bool] = field(default_factory=dict)
    """By node: whether its part succeeded."""

    @property
    def succeeded(self) -> bool:
        return len(self.answers) == self.request.case.nodes and all(self.answers.values())


class KubernetesJob(PackedJob):
    """The pods of a job, by their completion index.

    Args:
        cluster: The namespace that they run in.
        name: The name of the job's objects.
        trials: Their folders receive what the pods leave.
        queue_timeout_s: How long the pods may wait for a node and their image.
        reattached: Whether it was submitted by another process, so that trials before these may have ended it.
    """

    def __init__(
        self,
        cluster: KubernetesClient,
        name: str,
        trials: Sequence[TrialRequest],
        queue_timeout_s: float,
        *,
        reattached: bool = False,
    ) -> None:
        self.cluster, self.name, self.queue_timeout_s, self.reattached = cluster, name, queue_timeout_s, reattached
        self.nodes, self.timeouts = trials[0].case.nodes, cluster.timeouts
        self.trials: dict[str, TrialOfJob] = {}
        """By name: those whose results were not taken."""
        for trial in trials:
            self.add(trial)
        self.pods: dict[int, Pod] = {}
        self.tails: dict[int, deque[str]] = {}
        self.logs = PodLogs(cluster)
        self.start_failure: str | None = None
        self.ended = False

    def add(self, trial: TrialRequest) -> None:
        """Wait for another one of its trials."""
        self.trials[trial.folder.name] = TrialOfJob(trial, TransferReceiver(trial.folder))

    def wait_for(self, trial: TrialRequest, timeout_s: float) -> TrialResult | None:
        try:
            result = self._wait(self.trials[trial.folder.name], timeout_s)
        except BaseException:
            self.cancel()
            raise
        del self.trials[trial.folder.name]
        if not self.trials or result is None or result.outcome != "ok":
            self.cancel()
        return result

    def _wait(self, part: TrialOfJob, timeout_s: float) -> TrialResult | None:
        if self.start_failure is not None:
            return failed_start(self.start_failure)
        if self.ended:
            return None
        phase = self._await_end(part, timeout_s)
        if phase in ("queued", "cannot start"):
            self.start_failure = self._describe_start(phase)
            return TrialResult("failed", self.start_failure, (), (), self._log_tail())
        if phase not in ("answered", "over"):
            self.cluster.delete(self.name)
        if phase != "answered":
            self._take(self.logs.rest(TERMINATION_GRACE_S + self.timeouts.read_s))
        if self.reattached and not part.began:
            # A trial before it has ended the job, or the loss of a pod did, of which nothing is known.
            return None
        request, lost = part.request, () if phase == "answered" else self._lost(part)
        return gather_result(
            request.folder, request.case, lost, timed_out=phase == "running", log_tail=self._log_tail()
        )

    def _await_end(self, part: TrialOfJob, timeout_s: float) -> PartPhase:
        """The phase in which there is nothing left to wait for."""
        limits_s: Mapping[TrialPhase, float] = {
            "queued": self.queue_timeout_s,
            "running": timeout_s + self.timeouts.report_s,
            "failing": self.timeouts.exit_grace_s,
            "over": TERMINATION_GRACE_S + self.timeouts.read_s,
        }
        since: dict[TrialPhase, float] = {}
        last_answer = time.monotonic()
        while not part.succeeded:
            try:
                version = self._update_pods()
                now = last_answer = time.monotonic()
                phase = trial_phase(self.pods.values(), self.nodes)
                left_s = limits_s.get(phase, 0.0) - (now - since.setdefault(phase, now))
                if left_s <= 0 or (phase == "over" and self.logs.are_read()):
                    return phase
                wait_s = min(self.timeouts.poll_s, left_s)
                if phase == "queued":
                    self.cluster.wait_for_change(self.name, version, wait_s)
                    wait_s = 0.0
                self._take(self.logs.take(wait_s))
            except KubernetesError as error:
                if not error.transient or time.monotonic() - last_answer > self.timeouts.unreachable_s:
                    raise
            if not part.succeeded:
                time.sleep(self.timeouts.debounce_s)
        return "answered"

    def _update_pods(self) -> str:
        """List the pods, and follow the logs of those that have started; returns the resource version of the list."""
        pods_there, version = self.cluster.pods(self.name)
        current = {pod.node: pod for pod in pods_there}
        for node, before in self.pods.items():
            current.setdefault(node, deleted_pod(before))
        for pod in current.values():
            if pod.phase != "pending":
                self.logs.follow(pod)
            if pod.over:
                self.logs.end(pod)
        self.pods = dict(sorted(current.items()))
        return version

    def _take(self, lines: Iterable[LogLine]) -> None:
        """Put transferred files into the folders of their trials, and note the answers; of all other lines, keep the
        last ones since the trial began. Lines of trials whose result was taken are dropped."""
        for node, text in lines:
            name, line = split_trial(text or "")
            tail, part = self.tails.setdefault(node, deque(maxlen=TAIL_LINES)), self.trials.get(name)
            if text is None:
                tail.clear()
            elif not name:
                tail.append(line)
            elif part is not None and line == BEGAN_LINE:
                part.began = True
                tail.clear()
            elif part is not None and line.startswith(f"{ENDED_LINE} "):
                part.answers[node] = line.removeprefix(f"{ENDED_LINE} ") == "ok"
            elif part is not None:
                try:
                    part.receiver.take(line)
                except TransferError as problem:
                    tail.append(str(problem))

    def _describe_start(self, phase: PartPhase) -> str:
        reason = pending_reason(self.pods.values(), self.nodes)
        if len(self.pods) < self.nodes and (warning := self.cluster.last_warning(self.name)):
            reason = f"{reason}: {warning}"
        if phase == "cannot start":
            return reason
        return f"not all pods started within {self.queue_timeout_s:g} s; {reason}"

    def _lost(self, part: TrialOfJob) -> list[LostNode]:
        """The nodes whose pod failed without a report."""
        reported = read_node_reports(part.request.folder)
        return [
            LostNode(node, pod.host or pod.name, pod.reason or "its pod failed")
            for node, pod in self.pods.items()
            if pod.ended_badly and node not in reported
        ]

    def _log_tail(self) -> tuple[str, ...]:
        return tuple(f"pod {node}: {line}" for node, tail in sorted(self.tails.items()) for line in tail)

    def cancel(self) -> None:
        """Delete all objects and wait until the pods have gone: the next job may run on the same machines."""
        if self.ended:
            return
        self.logs.close()
        self.cluster.delete(self.name)
        self.ended = True
        deadline = time.monotonic() + TERMINATION_GRACE_S + self.timeouts.poll_s
        with suppress(KubernetesError):
            while (left_s := deadline - time.monotonic()) > 0:
                pods_there, version = self.cluster.pods(self.name)
                if not pods_there:
                    return
                self.cluster.wait_for_change(self.name, version, min(self.timeouts.poll_s, left_s))
