"""A trial's Job in a cluster: watched until its pods have ended or never will, then its words are gathered and all
of it is deleted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress

from bench.parcel import BadParcel, Unpacker
from harness.kube.cluster import PAUSE_S, TRIES, Cluster, Refused
from harness.kube.manifests import GRACE_S
from harness.kube.pods import Pod, Standing, gone, standing, waiting_for
from harness.remote import MARGIN_S, Lost, ends_in, gather
from harness.sites import Asked, Ending, Job

LOOK_S = 5.0
"""The pods are looked at again at least this often."""
SETTLE_S = 0.2
"""Several changes in a row are looked at once."""
LAST_WORDS_S = 15.0
"""How long the others may go on after a pod has ended badly: they notice, and say so."""
OUT_OF_REACH_S = 120.0
"""How long the cluster's API may be out of reach."""
TAIL_LINES = 20


class KubernetesJob(Job):
    """The pods of one trial, by their numbers."""

    def __init__(self, cluster: Cluster, asked: Asked, name: str, queue_timeout_s: float) -> None:
        self.cluster, self.case, self.folder = cluster, asked.case, asked.folder
        self.queue_timeout_s = queue_timeout_s
        self.name = self.handle = name
        self.pods: dict[int, Pod] = {}
        self.tails: dict[int, deque[str]] = {}
        self.unpacker = Unpacker(asked.folder)
        self.ended = False

    def wait(self, timeout_s: float) -> Ending:
        try:
            last = self._await_end(timeout_s)
            if last in ("queued", "hopeless"):
                return Ending("failed", self._why_not_begun(last), (), (), self._log_tail())
            if last != "over":
                self._hear_last_words()
            return gather(self.folder, self.case, self._lost(), timed_out=last == "running", log_tail=self._log_tail())
        finally:
            self.cancel()

    def _await_end(self, timeout_s: float) -> Standing:
        """How the pods stand when there is nothing to wait for any more."""
        limits_s: Mapping[Standing, float] = {
            "queued": self.queue_timeout_s,
            "running": timeout_s + MARGIN_S,
            "breaking": LAST_WORDS_S,
        }
        since: dict[Standing, float] = {}
        answered = time.monotonic()
        while True:
            try:
                version = self._look()
                now = answered = time.monotonic()
                found = standing(self.pods.values(), self.case.nodes)
                left_s = limits_s.get(found, 0.0) - (now - since.setdefault(found, now))
                if left_s <= 0:
                    return found
                self.cluster.await_change(self.name, version, min(LOOK_S, left_s))
            except Refused as refused:
                if not refused.passing or time.monotonic() - answered > OUT_OF_REACH_S:
                    raise
            time.sleep(SETTLE_S)

    def _look(self) -> str:
        """See how the pods stand, and read the logs of those that have ended; returns the version of what was seen."""
        listed, version = self.cluster.pods(self.name)
        seen = {pod.node: pod for pod in listed}
        for node, before in self.pods.items():
            seen.setdefault(node, gone(before))
        for node, pod in seen.items():
            if pod.over and not (node in self.pods and self.pods[node].over):
                self._hear(pod)
        self.pods = dict(sorted(seen.items()))
        return version

    def _hear(self, pod: Pod) -> None:
        """Read the log of a pod that has ended. Of one on a node that is gone there may be none."""
        for left in reversed(range(TRIES)):
            try:
                return self._take(pod.node, self.cluster.log(pod.name))
            except Refused as refused:
                if not left or not refused.passing:
                    return None
            time.sleep(PAUSE_S)
        return None

    def _take(self, node: int, lines: Iterable[str]) -> None:
        """Files of a parcel go to the trial's folder; of everything else the last lines are kept."""
        tail = self.tails[node] = deque(maxlen=TAIL_LINES)
        for line in lines:
            try:
                if not self.unpacker.take(line):
                    tail.append(line)
            except BadParcel as problem:
                tail.append(str(problem))

    def _hear_last_words(self) -> None:
        """Tell the pods that are left to end, and listen to what they say then."""
        listening = []
        for pod in self.pods.values():
            if not pod.over:
                with suppress(Refused):
                    listening.append((pod.node, self.cluster.following(pod.name)))
        self.cluster.delete(self.name)
        for node, lines in listening:
            with suppress(Refused):
                self._take(node, lines)

    def _why_not_begun(self, last: Standing) -> str:
        why = waiting_for(self.pods.values(), self.case.nodes)
        if len(self.pods) < self.case.nodes and (said := self.cluster.why_no_pods(self.name)):
            why = f"{why}: {said}"
        return why if last == "hopeless" else f"not all pods began within {self.queue_timeout_s:g} s; {why}"

    def _lost(self) -> list[Lost]:
        """The nodes that ended badly without a word of their own."""
        spoken = ends_in(self.folder)
        return [
            Lost(node, pod.host or pod.name, pod.why or "its pod failed")
            for node, pod in self.pods.items()
            if pod.badly and node not in spoken
        ]

    def _log_tail(self) -> tuple[str, ...]:
        return tuple(f"pod {node}: {line}" for node, tail in sorted(self.tails.items()) for line in tail)

    def cancel(self) -> None:
        """Delete all of it, and wait until the pods have gone: the next trial may be on the same machines."""
        if self.ended:
            return
        self.cluster.delete(self.name)
        self.ended = True
        deadline = time.monotonic() + GRACE_S + LOOK_S
        with suppress(Refused):
            while (left_s := deadline - time.monotonic()) > 0:
                listed, version = self.cluster.pods(self.name)
                if not listed:
                    return
                self.cluster.await_change(self.name, version, min(LOOK_S, left_s))
