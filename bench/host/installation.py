"""Where things are kept outside the checkout, and what the Horovod build left in this environment."""

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
    """A folder of the user's cache, shared by every clone and every environment."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "scaling-harness" / name


@dataclass(frozen=True)
class HorovodBuild:
    """How the last build of Horovod in this environment ended."""

    name: str
    mpi: bool = False
    nccl: bool = False
    problem: str | None = None
    """Why it failed, in one line; ``None`` where it did not."""


def _build_file() -> Path:
    return Path(sys.prefix) / "horovod-build.json"


def read_horovod_build() -> HorovodBuild | None:
    """The last build in this environment; ``None`` where Horovod came some other way, or not at all."""
    try:
        return HorovodBuild(**json.loads(_build_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_horovod_build(build: HorovodBuild) -> None:
    _build_file().write_text(json.dumps(asdict(build)) + "\n")


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
