"""On which addresses the processes of a cluster of :mod:`tests.support.namespaces` wait for connections.

A process in each node reads the kernel's tables many times a second, as ``ss`` does: some sockets listen for a few
milliseconds only, while ranks meet. Beside TCP it reports UDP sockets, and Unix sockets whose names are in no folder:
every user can connect to these.

    python -m tests.support.listening        one line for each socket that is new: process name and address
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.namespaces import Node
from tests.support.paths import ROOT

DAEMONS = frozenset({"slurmctld", "slurmd", "slurmstepd", "srun", "munged", "sshd"})
"""What is not ours, and listens where its own configuration says."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
INTERVAL_S = 0.005
LISTENING, UNCONNECTED = "0A", "07"
"""The states of TCP and of UDP sockets that wait for others."""


def read_address(text: str) -> str:
    """``0100007F`` → ``127.0.0.1``: words of four bytes, each in the order of this machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def read_table(table: str, state: str) -> Iterator[tuple[str, str]]:
    """Inode and address of the sockets in one state, from ``/proc/net/tcp`` and the like."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == state:
            yield fields[9], read_address(fields[1].partition(":")[0])


def read_unix_table(table: str) -> Iterator[tuple[str, str]]:
    """Inode and name of the listening Unix sockets in no folder, from ``/proc/net/unix``."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        # The kernel's flag of a socket that listens.
        if len(fields) > 7 and fields[7].startswith("@") and int(fields[3], 16) & 0x10000:
            yield fields[6], fields[7]


def waiting_sockets() -> Iterator[tuple[str, str]]:
    """Inode and address of every socket in this network namespace that waits for others."""
    net = Path("/proc/self/net")
    for name, state in (("tcp", LISTENING), ("tcp6", LISTENING), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)):
        with suppress(OSError):
            yield from read_table((net / name).read_text(), state)
    yield from read_unix_table((net / "unix").read_text())


def process_of(inode: str) -> str:
    """The name of a process that has the socket; ``?`` where it is closed again."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and any(
                str(descriptor.readlink()) == f"socket:[{inode}]" for descriptor in (process / "fd").iterdir()
            ):
                return (process / "comm").read_text().strip()
    return "?"


def watch() -> None:
    known: set[str] = set()
    print("ready -", flush=True)
    while True:
        for inode, address in waiting_sockets():
            if inode not in known:
                known.add(inode)
                print(process_of(inode), address, flush=True)
        time.sleep(INTERVAL_S)


class ListenerWatch:
    """A context that gathers who listens where on every node."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.seen: set[tuple[str, str, str]] = set()
        """Node, process name and address."""

    def __enter__(self) -> Self:
        command, env = [sys.executable, "-m", "tests.support.listening"], {"PYTHONPATH": str(ROOT)}
        self.watchers = {
            name: node.start(command, env=env, cwd=ROOT, stdout=subprocess.PIPE) for name, node in self.nodes.items()
        }
        self.readers = []
        for name, watcher in self.watchers.items():
            assert watcher.stdout.readline() == "ready -\n"
            self.readers.append(threading.Thread(target=self._read, args=(name, watcher)))
            self.readers[-1].start()
        return self

    def _read(self, name: str, watcher: subprocess.Popen) -> None:
        for line in watcher.stdout:
            process, _, address = line.rstrip("\n").rpartition(" ")
            self.seen.add((name, process, address))

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        for watcher in self.watchers.values():
            watcher.kill()
            watcher.wait()
        for reader, watcher in zip(self.readers, self.watchers.values(), strict=True):
            reader.join()
            watcher.stdout.close()

    def ours(self) -> set[tuple[str, str, str]]:
        found = {entry for entry in self.seen if entry[1] not in DAEMONS}
        assert found, f"nothing of ours was seen to listen: {self.seen}"
        return found

    def elsewhere(self) -> set[tuple[str, str, str]]:
        """Listeners of ours on other addresses than their node's own and the loopback one."""
        return {entry for entry in self.ours() if entry[2] not in LOOPBACK | {self.nodes[entry[0]].address}}

    def beyond_loopback(self) -> set[tuple[str, str, str]]:
        """Listeners of ours on other addresses than the loopback one."""
        return {entry for entry in self.ours() if entry[2] not in LOOPBACK}


if __name__ == "__main__":
    watch()
