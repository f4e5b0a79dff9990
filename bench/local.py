"""Small facts about the host a process is on."""

from __future__ import annotations

import importlib.util
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


def torch_cuda_version() -> str | None:
    """The CUDA version torch was built with, read from its version file; ``None`` for a CPU build or no torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    for line in (Path(spec.origin).parent / "version.py").read_text().splitlines():
        if line.startswith("cuda") and "'" in line:
            return line.split("'")[1]
    return None
