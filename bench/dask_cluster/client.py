"""A Dask client for the harness that reads text and numbers from the network, and no pickles.

Dask's own processes trust each other: a scheduler and its workers execute what they are sent. The client of a cluster
that exists need not trust it. The functions that it calls there return JSON text, and a pickle that arrives besides may
name nothing but Python's own exceptions.
"""

from __future__ import annotations

import builtins
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.backends.dask.cluster_ref import SchedulerAddress, make_security

SAFE_SERIALIZERS = ("msgpack", "error")
"""Dask's names for the serializers whose results are accepted."""
SAFE_TYPE_NAMES = ("str", "bytes", "list", "bool")
"""Types that Dask names in a pickle when it reports the type of a result."""
CONNECT_TIMEOUT_S = 10.0

_this_thread = threading.local()


class UnsafePickle(TypeError):
    """A pickle from the network named something else than an exception or a plain type."""


class SchedulerUnreachable(Exception):
    """No scheduler answers. The text says where and why, in one line."""


def is_safe_to_name(module: str, name: str) -> bool:
    """Whether a pickle may name it: an exception of Python itself, or the type of a plain result (pure)."""
    if module != "builtins":
        return False
    value = getattr(builtins, name, None)
    return name in SAFE_TYPE_NAMES or (isinstance(value, type) and issubclass(value, Exception))


def refuse_pickles() -> None:
    """Make this process raise :class:`UnsafePickle` for every pickle that names something not :func:`is_safe_to_name`.

    It is an audit hook, which Python calls before it looks up a name for a pickle, and which can't be removed again.
    Threads inside :func:`pickles_allowed` are exempt.
    """

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "pickle.find_class" or getattr(_this_thread, "builds_graphs", False):
            return
        if not is_safe_to_name(*map(str, arguments)):
            raise UnsafePickle(f"a pickle that names {arguments[0]}.{arguments[1]} is not accepted from a cluster")

    sys.addaudithook(audit)
    # Dask logs a traceback for every message that is refused.
    logging.getLogger("distributed.protocol.pickle").setLevel(logging.WARNING)


@contextmanager
def pickles_allowed() -> Iterator[None]:
    """Exempt this thread: Dask names a graph by pickling it and reading that back.

    What comes from the network is read by other threads: the client's event loop and its helpers.
    """
    _this_thread.builds_graphs = True
    try:
        yield
    finally:
        _this_thread.builds_graphs = False


@contextmanager
def connect(cluster: SchedulerAddress) -> Iterator[Any]:
    """A client of the cluster that accepts plain results only. Raises :class:`SchedulerUnreachable`."""
    import dask
    from distributed import Client

    # Dask's default is 30 s, which is long where the scheduler has gone.
    with dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT_S:g}s"}):
        try:
            client = Client(
                cluster.address,
                security=make_security(cluster.tls),
                timeout=CONNECT_TIMEOUT_S,
                deserializers=list(SAFE_SERIALIZERS),
            )
        except (OSError, TimeoutError, ValueError, RuntimeError) as problem:
            message = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise SchedulerUnreachable(f"no Dask scheduler answers at {cluster.address} ({message})") from None
        with client:
            yield client
