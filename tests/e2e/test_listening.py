"""While ranks work, none of our processes listens on an address that was not chosen."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

from tests.e2e.conftest import MARK


def listeners(mark: str) -> set[tuple[int, str]]:
    """Process and address, of every TCP socket that waits for connections."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                sockets = process.net_connections("tcp")
                found |= {(process.pid, one.laddr.ip) for one in sockets if one.status == psutil.CONN_LISTEN}
    return found


def test_everything_listens_on_the_chosen_interface_only(harness):
    process = harness.start(
        "sweep",
        harness.lean(),
        "--repeats",
        "1",
        "--window",
        "0.2",
        "--backends",
        "ddp,fsdp,horovod,dask",
        "--workloads",
        "synthetic",
        "--ranks",
        "2",
        "--set",
        "dask.transport=tasks,gloo",
    )
    seen: set[tuple[int, str]] = set()
    while process.poll() is None:
        seen |= listeners(harness.mark)
        time.sleep(0.02)
    assert process.returncode == 0, process.communicate()
    process.communicate()
    assert {address for _, address in seen} == {"127.0.0.1"}
    assert len({pid for pid, _ in seen}) >= 2 + 1 + 3 + 3, "DDP's ranks, Horovod's first, Dask's scheduler and workers"
