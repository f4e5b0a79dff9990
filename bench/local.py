"""Small facts about the host a process is on."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path


def free_port(host: str = "") -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def find_mpirun() -> str | None:
    """mpirun of this environment, else of the machine."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")
