"""What a rank knows of the Dask cluster that holds it, where that is not the trial's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.rank_info import RankInfo
from bench.plugins.registry import load_workload

CLUSTER_REF_VARIABLE = "SCALING_DASK"


class ClusterRef(FrozenModel):
    """A cluster that was there before the trial and stays: who its scheduler is, which workers the ranks may use."""

    trial: str
    cluster: SchedulerAddress
    workers: tuple[str, ...]


thread_cluster_ref: ContextVar[ClusterRef | None] = ContextVar("in_this_thread", default=None)
"""Set by whoever starts a rank in a worker's thread; a rank of its own process finds it in
:data:`CLUSTER_REF_VARIABLE`."""


def current_cluster_ref() -> ClusterRef | None:
    """The cluster that holds this rank; ``None``: the trial has one of its own."""
    text = os.environ.get(CLUSTER_REF_VARIABLE)
    return thread_cluster_ref.get() or (ClusterRef.model_validate_json(text) if text else None)


def _worker_client() -> Any:
    import distributed

    return distributed.get_client()


@dataclass(frozen=True)
class DaskContext:
    """How a rank asks Dask for a computation, and of whom."""

    trial: str = ""
    client: Callable[[], Any] = _worker_client
    compute_options: dict[str, Any] = field(default_factory=dict)
    """What ``Client.compute`` is told besides: on which workers."""
    settings: dict[str, str] = field(default_factory=dict)


@contextmanager
def open_dask_context(case: Case, me: RankInfo) -> Iterator[DaskContext]:
    """A client of the cluster that holds this rank, for as long as rank 0 may need one."""
    cluster_ref = current_cluster_ref()
    if cluster_ref is None:
        yield DaskContext()
        return
    settings = {"workers": "kept by the cluster"} if case.transport == "tasks" else {}
    if me.rank or load_workload(case.workload).kind != "array":
        yield DaskContext(trial=cluster_ref.trial, settings=settings)
        return
    from distributed import Client

    # Its own, not the worker's: that would stay behind in the worker.
    compute_options = {"workers": list(cluster_ref.workers), "allow_other_workers": False}
    with Client(
        cluster_ref.cluster.address, security=make_security(cluster_ref.cluster.tls), set_as_default=False
    ) as client:
        yield DaskContext(cluster_ref.trial, lambda: client, compute_options, settings)


class Tls(FrozenModel):
    """Paths of PEM files, never what is in them."""

    ca: str
    cert: str
    key: str


class SchedulerAddress(FrozenModel):
    """Where a cluster is met, and by which certificate this side is known there."""

    address: str
    tls: Tls | None = None


def make_security(tls: Tls | None) -> Any:
    """Dask's ``Security`` for every role that this side may play; ``None`` without TLS."""
    if tls is None:
        return None
    from distributed.security import Security

    roles = ("client", "scheduler", "worker")
    pairs = {f"tls_{role}_{kind}": value for role in roles for kind, value in (("cert", tls.cert), ("key", tls.key))}
    return Security(require_encryption=True, tls_ca_file=tls.ca, **pairs)
