"""Builds the substitute for NVIDIA's management library, see ``nvml/substitute.c``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "nvml" / "substitute.c"
NAME = "libnvidia-ml.so.1"


def build(folder: Path) -> Path:
    """The folder, which then holds the library: put it on ``LD_LIBRARY_PATH`` of a process before it starts."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here (cc, gcc, clang)")
    options = [
        "-std=c11",
        "-D_POSIX_C_SOURCE=200809L",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fPIC",
        "-shared",
        f"-Wl,-soname,{NAME}",
    ]
    subprocess.run([compiler, *options, "-o", str(folder / NAME), str(SOURCE)], check=True)
    return folder
