"""How a process reaches a Dask cluster, and how a rank learns which cluster holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.backends.dask import local_sockets
from bench.backends.dask.options import DaskOptions, exchange_mode
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.rank_info import RankInfo
from bench.core.records import CONNECTIONS
from bench.host.certificate import CERTIFICATE_VARIABLE
from bench.plugins.registry import workload_of

CLUSTER_REF_VARIABLE = "SCALING_DASK"
TLS_PREFIX = "tls://"
"""How processes on several machines connect: Dask executes what it is sent."""


class Tls(FrozenModel):
    """Paths of PEM files; their contents never travel."""

    ca: str
    cert: str
    key: str


class SchedulerAddress(FrozenModel):
    """Address of a scheduler, as Dask writes it, and the certificates by which it is reached."""

    address: str
    tls: Tls | None = None


class ClusterRef(FrozenModel):
    """A cluster that exists and holds the ranks of a trial."""

    trial: str
    cluster: SchedulerAddress
    workers: tuple[str, ...]
    """Addresses of the workers that the ranks may use."""


def one_file_tls(path: str) -> Tls:
    """What :func:`bench.host.certificate.write_certificate` has written: one file for all purposes."""
    return Tls(ca=path, cert=path, key=path)


def make_security(tls: Tls | None) -> Any:
    """Dask's ``Security`` with the same certificate in each role; ``None`` without TLS."""
    if tls is None:
        return None
    from distributed.security import Security

    roles = ("client", "scheduler", "worker")
    pairs = {f"tls_{role}_{kind}": value for role in roles for kind, value in (("cert", tls.cert), ("key", tls.key))}
    return Security(require_encryption=True, tls_ca_file=tls.ca, **pairs)


def certificate_folder() -> Path:
    """The folder of this trial's certificate, which nobody else can enter.

    Raises:
        KeyError: Where this process has no certificate of its trial.
    """
    return Path(os.environ[CERTIFICATE_VARIABLE]).parent


def is_local(case: Case) -> bool:
    """Whether the processes of a trial's own cluster are connected by Unix sockets: all are on one machine, with no
    emulated network between them."""
    chosen = DaskOptions(**case.backend_options).connections
    return chosen == "auto" and case.nodes == 1 and case.net is None and local_sockets.fits(certificate_folder())


def connect_own_cluster(case: Case) -> tuple[str, Any]:
    """Let this process connect to a cluster that is the trial's own.

    Returns:
        The protocol, and Dask's ``Security``: it takes the trial's certificate and no other. ``None``: nobody else
        reaches the sockets.

    Raises:
        KeyError: Where this process has no certificate of its trial.
    """
    if is_local(case):
        local_sockets.register(certificate_folder())
        return local_sockets.PREFIX, None
    return TLS_PREFIX, make_security(one_file_tls(os.environ[CERTIFICATE_VARIABLE]))


thread_cluster_ref: ContextVar[ClusterRef | None] = ContextVar("thread_cluster_ref", default=None)
"""Set where a rank runs in a worker's thread. A rank in a process of its own reads :data:`CLUSTER_REF_VARIABLE`."""


def current_cluster_ref() -> ClusterRef | None:
    """The cluster that exists and holds this rank; ``None``: the cluster is the trial's own."""
    text = os.environ.get(CLUSTER_REF_VARIABLE)
    return thread_cluster_ref.get() or (ClusterRef.model_validate_json(text) if text else None)


def _worker_client() -> Any:
    import distributed

    return distributed.get_client()


@dataclass(frozen=True)
class DaskContext:
    """How a rank has Dask compute something."""

    trial: str = ""
    """See :attr:`bench.backends.dask.rank_tasks.RankTask.trial`."""
    client: Callable[[], Any] = _worker_client
    compute_options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``Client.compute``: which workers may be used."""
    settings: dict[str, str] = field(default_factory=dict)
    """What the rank's record says of the cluster."""


def _connection_settings(case: Case, cluster_ref: ClusterRef | None, *, by_dask: bool) -> dict[str, str]:
    """How what is measured travels. Numbers of ways that differ are not compared: encryption and tasks take time."""
    by_tasks = case.transport == "tasks"
    if cluster_ref is None:
        protocol = "unix" if is_local(case) else "tls"
    else:
        protocol = "tls" if cluster_ref.cluster.tls is not None else ""
    ways = [protocol if by_dask or by_tasks else "", "streams" if by_tasks and exchange_mode(case) == "stream" else ""]
    return {CONNECTIONS: ", ".join(filter(None, ways))} if any(ways) else {}


@contextmanager
def open_dask_context(case: Case, me: RankInfo) -> Iterator[DaskContext]:
    """The context of this rank; on a cluster that exists, with a client of its own where rank 0 needs one."""
    cluster_ref, by_dask = current_cluster_ref(), workload_of(case).kind == "array"
    settings = _connection_settings(case, cluster_ref, by_dask=by_dask)
    if cluster_ref is None:
        yield DaskContext(settings=settings)
        return
    settings |= {"workers": "kept by the cluster"} if case.transport == "tasks" else {}
    if me.rank or not by_dask:
        yield DaskContext(trial=cluster_ref.trial, settings=settings)
        return
    from distributed import Client

    # The worker's own client would stay in the worker after the trial.
    compute_options = {"workers": list(cluster_ref.workers), "allow_other_workers": False}
    with Client(
        cluster_ref.cluster.address, security=make_security(cluster_ref.cluster.tls), set_as_default=False
    ) as client:
        yield DaskContext(cluster_ref.trial, lambda: client, compute_options, settings)
