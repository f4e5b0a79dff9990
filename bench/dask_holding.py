"""What a rank knows of the Dask cluster that holds it, where that is not the trial's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from bench.case import Case
from bench.dask_client import Cluster, security_of
from bench.identity import Identity
from bench.registry import load_workload
from bench.value import Value

VARIABLE = "SCALING_DASK"


class Holding(Value):
    """A cluster that was there before the trial and stays: who its scheduler is, which workers the ranks may use."""

    trial: str
    cluster: Cluster
    workers: tuple[str, ...]


in_this_thread: ContextVar[Holding | None] = ContextVar("in_this_thread", default=None)
"""Set by whoever starts a rank in a worker's thread; a rank of its own process finds it in :data:`VARIABLE`."""


def held_by() -> Holding | None:
    """The cluster that holds this rank; ``None``: the trial has one of its own."""
    found = os.environ.get(VARIABLE)
    return in_this_thread.get() or (Holding.model_validate_json(found) if found else None)


def _own_client() -> Any:
    import distributed

    return distributed.get_client()


@dataclass(frozen=True)
class Asks:
    """How a rank asks Dask for a computation, and of whom."""

    trial: str = ""
    client: Callable[[], Any] = _own_client
    only: dict[str, Any] = field(default_factory=dict)
    """What ``Client.compute`` is told besides: on which workers."""
    settings: dict[str, str] = field(default_factory=dict)


@contextmanager
def asking(case: Case, me: Identity) -> Iterator[Asks]:
    """A client of the cluster that holds this rank, for as long as rank 0 may need one."""
    held = held_by()
    if held is None:
        yield Asks()
        return
    settings = {"workers": "kept by the cluster"} if case.transport == "tasks" else {}
    if me.rank or load_workload(case.workload).kind != "array":
        yield Asks(trial=held.trial, settings=settings)
        return
    from distributed import Client

    # Its own, not the worker's: that would stay behind in the worker.
    only = {"workers": list(held.workers), "allow_other_workers": False}
    with Client(held.cluster.address, security=security_of(held.cluster.tls), set_as_default=False) as client:
        yield Asks(held.trial, lambda: client, only, settings)
