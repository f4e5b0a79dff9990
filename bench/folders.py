"""Where things are kept outside the checkout, and what the Horovod build left in this environment."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

HOROVOD_BUILD_COMMAND = "python -m harness.horovod_wheel --strict"


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
