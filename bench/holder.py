"""The lives of two processes: one holds the network of a trial, one says what such a network carries.

Both are forked like ranks and end with the harness however that ends; with them goes what they made.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection

from bench.link_speed import measure_link
from bench.namespaces import NamespaceError, enter_namespace, make_network
from bench.nursery import die_with_parent


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
