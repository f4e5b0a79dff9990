"""Small facts about the host a process is on."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import sys
import time
from pathlib import Path


def free_port(host: str = "") -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def bind_address(rendezvous_host: str, own_host: str | None) -> str:
    """The address that whoever serves the meeting place binds, and no other: that of its own interface, where it has
    been told one. What its own name means to a machine may be a loopback address (Debian's 127.0.1.1), another
    interface's, or nothing yet."""
    if own_host:
        return own_host
    try:
        return str(socket.getaddrinfo(rendezvous_host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return rendezvous_host


def wait_for_listener(host: str, port: int, timeout_s: float) -> None:
    """Return once somebody listens there. The frameworks' own retries begin late and back off coarsely: half a second
    is lost where one of them asks a moment too early. Raises ``TimeoutError``."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens at {host}:{port}, where rank 0 is to be met, within {timeout_s:g} s")
        time.sleep(0.002)


def find_mpirun() -> str | None:
    """mpirun of this environment, else of the machine."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


def torch_cuda_version() -> str | None:
    """The CUDA version torch was built with, read from its version file; ``None`` for a CPU build or no torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    for line in (Path(spec.origin).parent / "version.py").read_text().splitlines():
        if line.startswith("cuda") and "'" in line:
            return line.split("'")[1]
    return None
