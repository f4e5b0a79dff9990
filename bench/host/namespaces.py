"""Network namespaces without names: the kernel clears them away with the last process that is in them or holds them.

One process makes the network of a trial and holds it (:mod:`bench.host.namespaces`); the ranks enter it as they are
born.

The lives of two processes: one holds the network of a trial, one says what such a network carries.

Both are forked like ranks and end with the harness however that ends; with them goes what they made.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench.host.link_speed import measure_link
from bench.host.links import NODE_INTERFACE, hub_commands, node_commands, port_names, shaping_commands
from bench.host.processes import die_with_parent

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


def hold_network(pipe: Connection, net: str, nodes: int) -> None:
    """Make the network, send its :class:`Places` or the :class:`NamespaceError` that says why not, and hold it until
    the other end of the pipe goes."""
    _detach()
    try:
        pipe.send(make_network(net, nodes))
    except NamespaceError as problem:
        pipe.send(problem)
    with suppress(EOFError):
        pipe.recv()


def measure_network_link(pipe: Connection, net: str) -> None:
    """Make a network of two, send its :class:`Link` or the :class:`NamespaceError` that says why not, and go."""
    _detach()
    try:
        pipe.send(measure_link(net, [partial(enter_namespace, namespace) for namespace in make_network(net, 2).nodes]))
    except (NamespaceError, OSError) as problem:
        pipe.send(NamespaceError(str(problem)))


def _detach() -> None:
    """No Ctrl-C reaches this process, and it goes when its parent does."""
    os.setsid()
    die_with_parent(int(os.environ["SCALING_WARM_PARENT"]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
