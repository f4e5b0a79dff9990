"""A trial's Job in a cluster: watched until its pods have ended or never will, then its words are gathered and all
of it is deleted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress

from bench.node.transfer import TransferError, TransferReceiver
from harness.sites.base.contract import Job, TrialRequest, TrialResult
from harness.sites.base.remote import MARGIN_S, LostNode, gather_result, read_node_ends
from harness.sites.kubernetes.client import MAX_ATTEMPTS, RETRY_PAUSE_S, KubernetesClient, KubernetesError
from harness.sites.kubernetes.manifests import TERMINATION_GRACE_S
from harness.sites.kubernetes.pods import Pod, TrialPhase, deleted_pod, pending_reason, trial_phase

POLL_S = 5.0
"""The pods are looked at again at least this often."""
DEBOUNCE_S = 0.2
"""Several changes in a row are looked at once."""
EXIT_GRACE_S = 15.0
"""How long the others may go on after a pod has ended badly: they notice, and say so."""
MAX_UNREACHABLE_S = 120.0
"""How long the cluster's API may be out of reach."""
TAIL_LINES = 20


class KubernetesJob(Job):
    """The pods of one trial, by their numbers."""

    def __init__(self, cluster: KubernetesClient, trial: TrialRequest, name: str, queue_timeout_s: float) -> None:
        self.cluster, self.case, self.folder = cluster, trial.case, trial.folder
        self.queue_timeout_s = queue_timeout_s
        self.name = self.handle = name
        self.pods: dict[int, Pod] = {}
        self.tails: dict[int, deque[str]] = {}
        self.unpacker = TransferReceiver(trial.folder)
        self.ended = False

    def wait(self, timeout_s: float) -> TrialResult:
        try:
            phase = self._await_end(timeout_s)
            if phase in ("queued", "hopeless"):
                return TrialResult("failed", self._start_failure(phase), (), (), self._log_tail())
            if phase != "over":
                self._delete_and_read_logs()
            return gather_result(
                self.folder, self.case, self._lost(), timed_out=phase == "running", log_tail=self._log_tail()
            )
        finally:
            self.cancel()

    def _await_end(self, timeout_s: float) -> TrialPhase:
        """How the pods stand when there is nothing to wait for any more."""
        limits_s: Mapping[TrialPhase, float] = {
            "queued": self.queue_timeout_s,
            "running": timeout_s + MARGIN_S,
            "breaking": EXIT_GRACE_S,
        }
        since: dict[TrialPhase, float] = {}
        last_answer = time.monotonic()
        while True:
            try:
                version = self._update_pods()
                now = last_answer = time.monotonic()
                found = trial_phase(self.pods.values(), self.case.nodes)
                left_s = limits_s.get(found, 0.0) - (now - since.setdefault(found, now))
                if left_s <= 0:
                    return found
                self.cluster.wait_for_change(self.name, version, min(POLL_S, left_s))
            except KubernetesError as error:
                if not error.transient or time.monotonic() - last_answer > MAX_UNREACHABLE_S:
                    raise
            time.sleep(DEBOUNCE_S)

    def _update_pods(self) -> str:
        """See how the pods stand, and read the logs of those that have ended; returns the version of what was seen."""
        pods_there, version = self.cluster.pods(self.name)
        current = {pod.node: pod for pod in pods_there}
        for node, before in self.pods.items():
            current.setdefault(node, deleted_pod(before))
        for node, pod in current.items():
            if pod.over and not (node in self.pods and self.pods[node].over):
                self._read_log(pod)
        self.pods = dict(sorted(current.items()))
        return version

    def _read_log(self, pod: Pod) -> None:
        """Read the log of a pod that has ended. Of one on a node that is gone there may be none."""
        for left in reversed(range(MAX_ATTEMPTS)):
            try:
                return self._consume_log(pod.node, self.cluster.log(pod.name))
            except KubernetesError as error:
                if not left or not error.transient:
                    return None
            time.sleep(RETRY_PAUSE_S)
        return None

    def _consume_log(self, node: int, lines: Iterable[str]) -> None:
        """Files of a parcel go to the trial's folder; of everything else the last lines are kept."""
        tail = self.tails[node] = deque(maxlen=TAIL_LINES)
        for line in lines:
            try:
                if not self.unpacker.take(line):
                    tail.append(line)
            except TransferError as problem:
                tail.append(str(problem))

    def _delete_and_read_logs(self) -> None:
        """Tell the pods that are left to end, and listen to what they say then."""
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
        why = pending_reason(self.pods.values(), self.case.nodes)
        if len(self.pods) < self.case.nodes and (said := self.cluster.last_warning(self.name)):
            why = f"{why}: {said}"
        return why if phase == "hopeless" else f"not all pods began within {self.queue_timeout_s:g} s; {why}"

    def _lost(self) -> list[LostNode]:
        """The nodes that ended badly without a word of their own."""
        reported = read_node_ends(self.folder)
        return [
            LostNode(node, pod.host or pod.name, pod.why or "its pod failed")
            for node, pod in self.pods.items()
            if pod.ended_badly and node not in reported
        ]

    def _log_tail(self) -> tuple[str, ...]:
        return tuple(f"pod {node}: {line}" for node, tail in sorted(self.tails.items()) for line in tail)

    def cancel(self) -> None:
        """Delete all of it, and wait until the pods have gone: the next trial may be on the same machines."""
        if self.ended:
            return
        self.cluster.delete(self.name)
        self.ended = True
        deadline = time.monotonic() + TERMINATION_GRACE_S + POLL_S
        with suppress(KubernetesError):
            while (left_s := deadline - time.monotonic()) > 0:
                pods_there, version = self.cluster.pods(self.name)
                if not pods_there:
                    return
                self.cluster.wait_for_change(self.name, version, min(POLL_S, left_s))
