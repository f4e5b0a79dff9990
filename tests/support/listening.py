"""On which addresses the processes of a cluster of :mod:`tests.support.namespaces` listen, as ``ss`` lists them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from tests.support.namespaces import Node

DAEMONS = frozenset({"slurmctld", "slurmd", "slurmstepd", "srun", "munged", "sshd"})
"""What is not ours, and listens where its own configuration says."""
INTERVAL_S = 0.2
LINE = re.compile(r"^LISTEN\s+\d+\s+\d+\s+(?P<address>\S+):\d+\s+\S+(?:\s+users:\(\(\"(?P<name>[^\"]+)\")?")


def read_listeners(listing: str) -> set[tuple[str, str]]:
    """Process name and address of each TCP socket in the output of ``ss -Hltnp``."""
    matches = filter(None, map(LINE.match, listing.splitlines()))
    return {(match["name"] or "?", match["address"]) for match in matches}


class ListenerWatch:
    """A context that gathers who listens where, on every node, several times a second."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.seen: set[tuple[str, str, str]] = set()
        """Node, process name and address."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._gather)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _gather(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            for name, node in self.nodes.items():
                listing = node.run(["ss", "-Hltnp"]).stdout
                self.seen |= {(name, process, address) for process, address in read_listeners(listing)}

    def elsewhere(self) -> set[tuple[str, str, str]]:
        """Listeners of ours on other addresses than their node's own and the loopback one."""
        ours = {entry for entry in self.seen if entry[1] not in DAEMONS}
        assert ours, f"nothing of ours was seen to listen: {self.seen}"
        return {entry for entry in ours if entry[2] not in (self.nodes[entry[0]].address, "127.0.0.1")}
