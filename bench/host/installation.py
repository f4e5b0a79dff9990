"""What is installed in this environment, and the cache folders outside of the checkout. Loads no framework."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

HOROVOD_BUILD_COMMAND = "python -m harness.setup.horovod_wheel --strict"


def cache_folder(name: str) -> Path:
    """A folder of the user's cache, shared by all checkouts and environments."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "scaling-harness" / name


@dataclass(frozen=True)
class HorovodBuild:
    """The result of the last build of Horovod in this environment."""

    name: str
    mpi: bool = False
    nccl: bool = False
    problem: str | None = None
    """Why it failed, in one line; ``None`` where it succeeded."""


def _build_file() -> Path:
    return Path(sys.prefix) / "horovod-build.json"


def read_horovod_build() -> HorovodBuild | None:
    """The last build in this environment; ``None`` where Horovod was not built by this project."""
    try:
        return HorovodBuild(**json.loads(_build_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_horovod_build(build: HorovodBuild) -> None:
    """Keep the result of a build for :func:`read_horovod_build`."""
    _build_file().write_text(json.dumps(asdict(build)) + "\n")


def find_mpirun() -> str | None:
    """The path of mpirun in this environment, else on ``PATH``; ``None`` where there is none."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


def torch_cuda_version() -> str | None:
    """The CUDA version that torch was built with, read from its files; ``None`` for a CPU build or without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    for line in (Path(spec.origin).parent / "version.py").read_text().splitlines():
        if line.startswith("cuda") and "'" in line:
            return line.split("'")[1]
    return None
