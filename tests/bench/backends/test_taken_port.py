"""A process of somebody else has taken the port between its choice and rank 0's use of it."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from datetime import timedelta

import pytest

from bench.backends.dask.backend import scheduler
from bench.backends.horovod_hosts import rendezvous_server
from bench.backends.torch_distributed import _serve_store
from bench.core.rank_info import RankInfo
from bench.host.certificate import CERTIFICATE_VARIABLE, create_certificate, write_certificate
from tests.support.builders import make_case

pytestmark = pytest.mark.frameworks


def serve_horovod(me: RankInfo) -> None:
    pytest.importorskip("horovod")
    with rendezvous_server(me, 1.0):
        pass


def serve_dask(me: RankInfo) -> None:
    scheduler(make_case(backend="dask", transport="tasks", backend_options={"connections": "tls"}), me, None)  # type: ignore[arg-type]  # it writes nothing


SERVERS: dict[str, Callable[[RankInfo], object]] = {
    "ddp": lambda me: _serve_store(me, timedelta(seconds=1)),
    "horovod": serve_horovod,
    "dask": serve_dask,
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("address", ["127.0.0.1", ""])
@pytest.mark.parametrize("backend", SERVERS)
def test_the_port_is_named(backend, address, tmp_path, monkeypatch):
    """The other process listens on this address, or on every one."""
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(write_certificate(create_certificate(), tmp_path)))
    with socket.create_server((address, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"another process has taken port {port} of 127.0.0.1, where rank 0 listens"):
            SERVERS[backend](RankInfo(0, 2, 0, 2, "127.0.0.1", port))
    # Dask leaves sockets to the collector when its scheduler does not start.
    gc.collect()
