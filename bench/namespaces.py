"""Network namespaces without names: the kernel clears them away with the last process that is in them or holds them.

One process makes the network of a trial and holds it (:mod:`bench.holder`); the ranks enter it as they are born.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from bench.links import NODE_INTERFACE, hub_commands, node_commands, port_names, shaping_commands

CLONE_NEWNET = 0x40000000
CLONE_NEWUTS = 0x04000000


class NamespaceError(Exception):
    """The network could not be made; says what the system said."""


class NetworkNamespaces(NamedTuple):
    """Where the namespaces of a network are found, as paths that can be entered."""

    hub: str
    nodes: tuple[str, ...]


def enter_namespace(namespace: str) -> None:
    """Move this thread, and what it starts from now on, into a namespace. Raises ``OSError``."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc().setns(descriptor, CLONE_NEWNET))
    finally:
        os.close(descriptor)


@contextmanager
def use_hostname(name: str) -> Iterator[None]:
    """Inside, this thread and those that it starts see the machine under another name; nobody else does.

    Raises ``OSError``.
    """
    _checked(_libc().unshare(CLONE_NEWUTS))
    real = socket.gethostname()
    socket.sethostname(name)
    try:
        yield
    finally:
        socket.sethostname(real)


def _create_namespace() -> str:
    """Make a namespace and enter it; this process holds it open for as long as it lives."""
    _checked(_libc().unshare(CLONE_NEWNET))
    return f"/proc/{os.getpid()}/fd/{os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)}"


def _libc() -> ctypes.CDLL:
    # os.setns and os.unshare came with Python 3.12.
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_network(net: str, nodes: int) -> NetworkNamespaces:
    """A hub and a namespace for each node, joined by links of the rate ``net``. Raises :class:`NamespaceError`."""
    try:
        namespaces = NetworkNamespaces(_create_namespace(), tuple(_create_namespace() for _ in range(nodes)))
        enter_namespace(namespaces.hub)
        _run_batch("ip", hub_commands(namespaces.nodes))
        _run_batch("tc", shaping_commands(port_names(nodes), net))
        for node, namespace in enumerate(namespaces.nodes):
            enter_namespace(namespace)
            _run_batch("ip", node_commands(node, net))
            _run_batch("tc", shaping_commands([NODE_INTERFACE], net))
    except OSError as problem:
        raise NamespaceError(str(problem)) from None
    return namespaces


def _run_batch(tool: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    result = subprocess.run([tool, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False)
    if result.returncode:
        raise NamespaceError(f"{tool}: {' '.join(result.stderr.split())}")
