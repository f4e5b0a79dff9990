"""Network namespaces without names, which the kernel removes with the last process that uses or holds them.

One process creates the network of a trial and holds it (:func:`hold_network`); ranks enter their namespaces as they
start. Another process measures what such a network carries (:func:`measure_network_link`). Both are forked like ranks
and end with the harness however that ends, and the networks end with them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench.host.commands import CommandTimeout, run_command
from bench.host.links import (
    NODE_INTERFACE,
    hub_commands,
    measure_link,
    node_commands,
    port_names,
    shaping_commands,
)
from bench.host.processes import die_with_parent

COMMAND_LIMIT_S = 30.0
CLONE_NEWNET = 0x40000000
CLONE_NEWUTS = 0x04000000


class NamespaceError(Exception):
    """The network could not be created. The text is the system's error message."""


class NetworkNamespaces(NamedTuple):
    """The namespaces of a network, as paths that :func:`enter_namespace` takes."""

    hub: str
    nodes: tuple[str, ...]


def enter_namespace(namespace: str) -> None:
    """Move this thread, and the processes that it starts from now on, into a network namespace.

    Raises:
        OSError: If there is no such namespace, or the process may not enter it.
    """
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc().setns(descriptor, CLONE_NEWNET))
    finally:
        os.close(descriptor)


@contextmanager
def use_hostname(name: str) -> Iterator[None]:
    """A context in which this thread and those that it starts see another host name; other processes do not.

    Raises:
        OSError: If the process may not change the name.
    """
    _checked(_libc().unshare(CLONE_NEWUTS))
    real = socket.gethostname()
    socket.sethostname(name)
    try:
        yield
    finally:
        socket.sethostname(real)


def _create_namespace() -> str:
    """Create a namespace and enter it; this process holds it open for as long as it lives."""
    _checked(_libc().unshare(CLONE_NEWNET))
    return f"/proc/{os.getpid()}/fd/{os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)}"


def _libc() -> ctypes.CDLL:
    # os.setns and os.unshare exist from Python 3.12 on.
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_network(net: str, nodes: int) -> NetworkNamespaces:
    """Create a hub and a namespace for each node, joined by links.

    Args:
        net: The rate of the links, as :func:`bench.host.links.parse_rate` returns it.
        nodes: The number of nodes.

    Raises:
        NamespaceError: If the system does not allow it, or lacks a tool.
    """
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
    try:
        result = run_command([tool, "-batch", "-"], COMMAND_LIMIT_S, text="\n".join(lines))
    except CommandTimeout as problem:
        raise NamespaceError(str(problem)) from None
    if result.returncode:
        raise NamespaceError(f"{tool}: {' '.join(result.stderr.split())}")


def hold_network(pipe: Connection, net: str, nodes: int) -> None:
    """Create a network, send its :class:`NetworkNamespaces`, or the :class:`NamespaceError` that says why there is
    none, and hold the network until the other end of the pipe is closed."""
    _detach()
    try:
        pipe.send(make_network(net, nodes))
    except NamespaceError as problem:
        pipe.send(problem)
    with suppress(EOFError):
        pipe.recv()


def measure_network_link(pipe: Connection, net: str) -> None:
    """Create a network of two nodes, measure its link, and send the :class:`~bench.core.records.Link`, or the
    :class:`NamespaceError` that says why there is none."""
    _detach()
    try:
        pipe.send(measure_link(net, [partial(enter_namespace, namespace) for namespace in make_network(net, 2).nodes]))
    except (NamespaceError, OSError) as problem:
        pipe.send(NamespaceError(str(problem)))


def _detach() -> None:
    """Keep Ctrl-C away from this process, and end it with its parent."""
    os.setsid()
    die_with_parent(int(os.environ["SCALING_WARM_PARENT"]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
