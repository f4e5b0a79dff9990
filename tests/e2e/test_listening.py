"""While ranks of one machine work, nothing of ours waits for connections from elsewhere.

The machine is a network namespace whose host name stands for an address that others reach, as that of most machines
does. What hosts and Slurm's nodes listen on is in the tests of these; SECURITY.md has the table of all.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.host.installation import find_mpirun
from tests.e2e.conftest import Harness
from tests.support.listening import ListenerWatch, read_address, read_table, read_unix_table
from tests.support.namespaces import cluster, unavailable_reason


class NodeHarness(Harness):
    """The real command on a node of its own."""

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "harness", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.node.start(command, env=self.env, cwd=self.folder, **pipes)


@pytest.fixture
def harness(tmp_path):
    if reason := unavailable_reason():
        pytest.skip(f"no machine of its own can be made here: {reason}")
    with cluster(["n1"]) as nodes:
        made = NodeHarness(tmp_path)
        made.node = nodes["n1"]
        yield made


def watched_sweep(harness: NodeHarness, *arguments: str) -> ListenerWatch:
    with ListenerWatch([harness.node]) as watch:
        document = harness.lean_sweep("--workloads", "synthetic", "--ranks", "2", *arguments)
    assert all(cell["outcome"] == "ok" for cell in document["cells"])
    return watch


def test_everything_but_mpi_listens_on_the_loopback_interface_only(harness):
    """Telemetry is on: samplers listen nowhere either."""
    backends = ("--backends", "ddp,fsdp,horovod,dask", "--set", "dask.transport=tasks,gloo")
    watch = watched_sweep(harness, *backends)
    assert watch.beyond_loopback() == set()
    assert {process for _, process, _ in watch.seen} <= {"python", "python3", "?"}


@pytest.mark.skipif(find_mpirun() is None, reason="no mpirun")
def test_of_mpi_only_its_daemon_listens(harness):
    watch = watched_sweep(harness, "--backends", "horovod", "--set", "horovod.transport=mpi", "--telemetry", "off")
    assert {(process, address) for _, process, address in watch.beyond_loopback()} == {
        ("prterun", "0.0.0.0"),
        ("prterun", "::"),
    }, "SECURITY.md names them"


def test_the_tables_of_the_kernel_are_read():
    assert (read_address("0100007F"), read_address("00000000")) == ("127.0.0.1", "0.0.0.0")
    assert read_address("00000000000000000000000001000000") == "::1"
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    row = "0: 0100007F:1F90 00000000:0000 {} 00000000:00000000 00:00000000 00000000  0  0 4711 1"
    assert list(read_table("\n".join([head, row.format("0A"), row.format("01")]), "0A")) == [("4711", "127.0.0.1")]
    unix = [
        "Num RefCount Protocol Flags Type St Inode Path",
        "0: 2 0 00010000 0001 01 11 @open",
        "1: 2 0 00010000 0001 01 12 /tmp/s",
    ]
    assert list(read_unix_table("\n".join(unix))) == [("11", "@open")]
