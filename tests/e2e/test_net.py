"""Nodes made of network namespaces: the links hold ranks up as real ones would, and nothing of them is left."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.sites.local.networks import links_unavailable_reason
from tests.e2e.conftest import MARK

pytestmark = pytest.mark.skipif(
    links_unavailable_reason() is not None, reason=f"links can't be created: {links_unavailable_reason()}"
)

SUITE = """
workloads = ["synthetic"]
ranks = [2]
warmup = 3
steps = 12
decompose = false
own_cost = false
roofline = false
[options.synthetic]
model = ["emulated"]
compute_ms = [0]
"""
GRADIENT_BYTES = 814_090 * 4
GBIT_S = 125e6
FEW = 200_000
"""Gradients, where a slow link is to carry them often."""


@pytest.fixture
def suite(harness) -> str:
    (harness.folder / "net.toml").write_text(SUITE)
    return "net.toml"


def namespaces(mark: str | None = None) -> set[int]:
    """The network namespaces that processes are in or hold open: those with a mark in their environment, or all."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if mark is None or process.environ().get(MARK) == mark:
                about = Path(f"/proc/{process.pid}")
                held = [link for link in (about / "fd").iterdir() if str(link.readlink()).startswith("net:")]
                found |= {place.stat().st_ino for place in (about / "ns" / "net", *held)}
    return found


OURS = Path("/proc/self/ns/net").stat().st_ino


@pytest.mark.alone
def test_a_step_takes_at_least_what_the_wire_takes(harness, suite):
    name = socket.gethostname()
    document = harness.sweep(suite, "--backends", "ddp,horovod,dask", "--net", "1gbit")
    assert [cell["backend"] for cell in document["cells"]] == ["ddp", "horovod", "dask"]
    for cell in document["cells"]:
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same"), cell["reason"]
        # Two ranks: each sends, and receives, 2(N-1)/N = 1 times the gradients.
        assert cell["step"]["value"] >= GRADIENT_BYTES / GBIT_S
        assert cell["link"]["achieved_bytes_s"] == pytest.approx(GBIT_S, rel=0.1)
        assert cell["key"].endswith("/net=1gbit/ranks=2")
        assert "reason" in cell["usage"]["loopback"]
    assert socket.gethostname() == name, "Horovod's ranks go by another name among themselves only"
    harness.nothing_left()


@pytest.mark.alone
def test_the_ranks_of_a_node_reach_each_other_beside_the_links(harness, suite):
    asked = ("--backends", "ddp,horovod", "--net", "100mbit", "--nodes", "1,2", "--ranks-per-node", "2")
    document = harness.sweep(suite, *asked, "--telemetry", "off", "--set", f"synthetic.parameters={FEW}")
    step_s = {}
    for cell in document["cells"]:
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same"), cell["reason"]
        step_s[cell["backend"], cell["ranks"]] = cell["step"]["value"]
    wire_s = FEW * 4 / (GBIT_S / 10)
    for backend in ("ddp", "horovod"):
        # However the ranks are visited, each node sends and receives the gradients once at least.
        assert step_s[backend, 4] >= wire_s > step_s[backend, 2]
    harness.nothing_left()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_however_the_harness_ends_no_namespace_is_left(harness, suite, sign):
    process = harness.start("sweep", suite, "--backends", "ddp", "--net", "1gbit", "--repeats", "50")
    seen: set[int] = set()
    deadline = time.monotonic() + 60
    # The hub and two ranks.
    while len(seen := seen | namespaces(harness.mark) - {OURS}) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no namespace within 60 s"
        time.sleep(0.05)
    process.send_signal(sign)
    process.communicate(timeout=30)
    harness.nothing_left(within_s=10)
    assert not seen & namespaces()
    assert not [name for name in psutil.net_if_addrs() if name.startswith(("port", "hub"))], "none was ever ours"
