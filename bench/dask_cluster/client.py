"""The harness's way into a Dask cluster: a client that takes text and numbers from the network, and no pickle.

Dask's own processes trust each other: a scheduler and its workers execute what they are sent. The client of the harness
need not: its functions return JSON text, and whatever else arrives as a pickle may name nothing but plain exceptions.
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
"""Dask's names for what results may be made of."""
SAFE_TYPE_NAMES = ("str", "bytes", "list")
"""What Dask names in a pickle when it tells the type of a result."""
CONNECT_TIMEOUT_S = 10.0

_this_thread = threading.local()


class UnsafePickle(TypeError):
    """A pickle from the network named something that the harness would have to run."""


class SchedulerUnreachable(Exception):
    """No scheduler answers. The text says where and why."""


def is_safe_to_name(module: str, name: str) -> bool:
    """Whether a pickle may name it: an exception of Python itself, or the type of a text (pure)."""
    if module != "builtins":
        return False
    found = getattr(builtins, name, None)
    return name in SAFE_TYPE_NAMES or (isinstance(found, type) and issubclass(found, Exception))


def refuse_pickles() -> None:
    """From now on any pickle this process loads that names something not :func:`is_safe_to_name` raises
    :class:`UnsafePickle`.

    Python asks before it looks up a name for a pickle, and whoever was registered here cannot be taken out again. Only
    a thread inside :func:`pickles_allowed` is not asked.
    """

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "pickle.find_class" or getattr(_this_thread, "builds_graphs", False):
            return
        if not is_safe_to_name(*map(str, arguments)):
            raise UnsafePickle(f"a pickle that names {arguments[0]}.{arguments[1]} is not taken from a cluster")

    sys.addaudithook(audit)
    # It tells of every refused notice with a traceback.
    logging.getLogger("distributed.protocol.pickle").setLevel(logging.WARNING)


@contextmanager
def pickles_allowed() -> Iterator[None]:
    """This thread may read pickles: Dask names a graph by pickling it and reading that again. What comes from the
    network is read by other threads, the client's event loop and its helpers."""
    _this_thread.builds_graphs = True
    try:
        yield
    finally:
        _this_thread.builds_graphs = False


@contextmanager
def connect(cluster: SchedulerAddress) -> Iterator[Any]:
    """A client that asks for plain results only. Raises :class:`SchedulerUnreachable`."""
    import dask
    from distributed import Client

    # The scheduler may be gone for good: nobody waits half a minute for it.
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
