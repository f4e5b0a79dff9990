"""The logs of a job's pods, followed in a thread each while the pods run."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterator

from harness.sites.kubernetes.client import KubernetesClient, KubernetesError
from harness.sites.kubernetes.pods import Pod

MAX_WAITING_LINES = 64
"""Lines that wait to be taken; their threads stop reading where there are more."""
OVERLAP_S = 5
"""How much of a log is read twice where following it was interrupted."""
CLOSED_CHECK_S = 1.0

LogLine = tuple[int, str | None]
"""The node of a pod, and a line of its log; ``None``: the log is read again, from its beginning."""


class PodLogs:
    """The lines of all pods of a job, in the order of each pod. Some may come twice.

    Args:
        cluster: The namespace of the pods.
    """

    def __init__(self, cluster: KubernetesClient) -> None:
        self.cluster = cluster
        self._lines: queue.Queue[LogLine | None] = queue.Queue(MAX_WAITING_LINES)
        self._readers: dict[str, threading.Thread] = {}
        self._over: dict[str, threading.Event] = {}
        self._closed = False

    def follow(self, pod: Pod) -> None:
        """Read a pod's log from its beginning. A second call does nothing."""
        if pod.name not in self._readers:
            self._over[pod.name] = threading.Event()
            self._readers[pod.name] = threading.Thread(target=self._read, args=(pod,), daemon=True)
            self._readers[pod.name].start()

    def end(self, pod: Pod) -> None:
        """The pod has ended: its log is read to its end."""
        if pod.name in self._over:
            self._over[pod.name].set()

    def are_read(self) -> bool:
        """Whether all that are followed have been read to their end, or can't be, and all lines were taken."""
        return self._lines.empty() and not any(reader.is_alive() for reader in self._readers.values())

    def take(self, within_s: float) -> list[LogLine]:
        """The lines that have come; where there are none, those that come next, or none after ``within_s``."""
        taken = []
        try:
            taken.append(self._lines.get(timeout=max(0.0, within_s)))
            while True:
                taken.append(self._lines.get_nowait())
        except queue.Empty:
            return [line for line in taken if line is not None]

    def rest(self, within_s: float) -> Iterator[LogLine]:
        """All lines to the end of the logs, of pods that have ended or been told to end; at most for ``within_s``."""
        for over in self._over.values():
            over.set()
        deadline = time.monotonic() + within_s
        while not self.are_read() and time.monotonic() < deadline:
            yield from self.take(min(self.cluster.timeouts.debounce_s, deadline - time.monotonic()))

    def close(self) -> None:
        """Read nothing more."""
        self._closed = True
        for over in self._over.values():
            over.set()

    def _read(self, pod: Pod) -> None:
        timeouts, over = self.cluster.timeouts, self._over[pod.name]
        read_until: float | None = None
        failures = 0
        while not self._closed and failures < timeouts.attempts:
            # What is read from now on of a pod that has ended is complete.
            is_last = over.is_set()
            since_s = None
            if read_until is not None and not is_last:
                since_s = math.ceil(time.monotonic() - read_until) + OVERLAP_S
            try:
                lines = self.cluster.follow_log(pod.name, since_s)
                if is_last:
                    self._put((pod.node, None))
                for line in lines:
                    read_until = time.monotonic()
                    if not self._put((pod.node, line)):
                        return
                if is_last:
                    break
                # The pod has probably ended.
                self._put(None)
            except KubernetesError as error:
                if not error.transient:
                    break
                failures += is_last
            over.wait(timeouts.retry_pause_s)
        self._put(None)

    def _put(self, line: LogLine | None) -> bool:
        """Add a line; ``None`` wakes whoever waits. Returns ``False`` where nobody reads any more."""
        while not self._closed:
            try:
                self._lines.put(line, timeout=CLOSED_CHECK_S)
            except queue.Full:
                continue
            return True
        return False
