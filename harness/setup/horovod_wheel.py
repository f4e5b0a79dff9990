"""Build Horovod once for this machine, cache the wheel and install it.

    python -m harness.setup.horovod_wheel            build unless a cached wheel fits, then install it
    python -m harness.setup.horovod_wheel --strict   the same, with exit status 1 where that fails
    python -m harness.setup.horovod_wheel --cuda     the same, also where it would be built without NCCL

A sweep with ``--build`` does the first of these when all cells that need no Horovod are measured.

Horovod is published as source only and must be compiled against the torch that it will run with. pip's own cache is
keyed by the source archive alone, so that a wheel built for another torch breaks at import. This cache is keyed by
everything that the binary depends on (:class:`BuildKey`): a second environment or a second run installs in a second.

Where torch is built with CUDA, and NCCL and a CUDA compiler are there (the extra ``cuda`` brings one), Horovod is built
with NCCL, for the GPUs of this machine, else for those that torch was built for. The build itself needs no GPU.

Where the build fails the rest of the project still works: the reason is recorded in the environment, and Horovod's
cells are skipped with it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

from bench.host.installation import HorovodBuild, cache_folder, read_horovod_build, write_horovod_build
from bench.host.scratch import open_scratch
from harness.defects import install_hooks
from harness.setup.build_progress import run_logged
from harness.setup.cuda_toolkit import find_architectures, link_toolkit
from harness.setup.horovod_key import (
    ARCHITECTURES_VARIABLE,
    BUILD_FILES,
    BUILD_TOOLS,
    BuildError,
    BuildKey,
    Nccl,
    NoNccl,
    RefusedBuild,
    build_environment,
    describe_build,
    find_nccl,
)

NOT_COMPILED = "it is not compiled yet"
NOTHING_FOUND = re.compile(r"satisfies the requirement (\S+) \(from versions: none\)")


def find_wheel(key: BuildKey, cache: Path) -> Path | None:
    """The cached wheel of this key, or ``None``."""
    return next(iter(sorted((cache / key.name).glob("horovod-*.whl"))), None)


@contextlib.contextmanager
def build_lock(cache: Path, out: TextIO) -> Iterator[None]:
    """Of two environments set up at the same time one builds, and the other waits for its wheel.

    Args:
        cache: Where wheels are kept.
        out: Where to tell that this one waits.
    """
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / "building.lock"
    with file.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            builder = handle.read().strip() or "unknown"
            print(f"waiting for another command that builds Horovod (PID {builder}, {file})", file=out, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        print(os.getpid(), file=handle, flush=True)
        yield


def build_wheel(key: BuildKey, nccl: Nccl | NoNccl, cache: Path, out: TextIO) -> Path:
    """Compile Horovod and put the wheel into ``cache`` (some minutes on 2 cores). Raises :class:`BuildError`."""
    with tempfile.TemporaryDirectory(prefix="horovod-build-", dir=open_scratch()) as scratch:
        work = Path(scratch)
        shutil.copytree(BUILD_FILES, work, dirs_exist_ok=True)
        tools, wheels, log = work / "tools", work / "wheels", work / "build.log"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        if isinstance(nccl, Nccl):
            nccl = replace(
                nccl,
                lib=str(linkable_nccl(Path(nccl.lib), work)),
                cuda_home=str(link_toolkit(Path(nccl.cuda_home), work / "cuda")),
            )
        env = build_environment(key, nccl, work / "toolchain.cmake", tools, os.environ)
        # The pinned constraints apply to what runs; these tools only compile.
        env.pop("PIP_CONSTRAINT", None)
        steps = (
            [*pip, "install", "--quiet", "--target", str(tools), *BUILD_TOOLS],
            [
                *pip,
                "wheel",
                "--verbose",  # else the compiler's output is kept until it fails
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
        for step, title in zip(steps, ("build tools", f"Horovod {key.horovod}"), strict=True):
            if run_logged(step, env, log, title, out):
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
    if found := NOTHING_FOUND.search(log):
        # pip goes on to say that no version matches, as if another one were there.
        return f"pip found no version of {found.group(1)} at all: its package index can't be reached, or lacks it"
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    return lines[-1] if lines else "the build failed without naming an error"


def ensure_horovod(
    cache: Path,
    *,
    architectures: str | None = None,
    needs_nccl: bool = False,
    compile_it: bool = True,
    out: TextIO | None = None,
) -> str:
    """Install the fitting wheel, built first where none is cached. Returns one line about what was done.

    Args:
        cache: Where wheels are kept.
        architectures: The compute capabilities to build for, such as ``80,90``; ``None``: those of the GPUs here, else
            those of torch.
        needs_nccl: Whether to fail where it would be built without NCCL.
        compile_it: Whether it may be compiled; else a build that is not cached fails.
        out: Where to show how far a build is; ``None``: standard output.

    Raises: :class:`BuildError` where it can't be built; :class:`RefusedBuild`, before anything is changed, where
        ``architectures`` or ``needs_nccl`` ask for what can't be had.
    """
    out = out or sys.stdout
    began = time.monotonic()
    nccl = _chosen_nccl(architectures, needs_nccl=needs_nccl)
    key = describe_build(nccl)
    wheel, how = find_wheel(key, cache), "cached wheel"
    if wheel is None and not compile_it:
        raise BuildError(NOT_COMPILED)
    if wheel is None:
        _check_environment()
        wheel, how = _built_once(key, nccl, cache, out)
    build = HorovodBuild(
        name=key.name,
        mpi=key.open_mpi is not None,
        nccl=isinstance(nccl, Nccl),
        no_nccl=f"{nccl.problem}; {nccl.remedy}" if isinstance(nccl, NoNccl) and nccl.wanted else None,
    )
    if read_horovod_build() != build or importlib.util.find_spec("horovod") is None:
        _check_environment()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--force-reinstall", str(wheel)], check=True)
        write_horovod_build(build)
    return f"Horovod {key.horovod} for torch {key.torch}: {how}, {time.monotonic() - began:.0f} s"


def _check_environment() -> None:
    """Raise :class:`BuildError`, before minutes of compiling, where nothing can be installed. Beside a Python that is
    no virtual environment, pip installs for the user."""
    places = (sys.prefix, sysconfig.get_path("purelib"))
    if sys.prefix != sys.base_prefix and not all(os.access(place, os.W_OK) for place in places):
        raise BuildError(f"environment {sys.prefix} can't be written; use one of your own: python -m venv FOLDER")


def _chosen_nccl(architectures: str | None, *, needs_nccl: bool) -> Nccl | NoNccl:
    """The NCCL to build with, and what for; or why without. Arguments and errors as of :func:`ensure_horovod`."""
    nccl = find_nccl()
    if isinstance(nccl, NoNccl):
        if needs_nccl:
            raise RefusedBuild(f"{nccl.problem}; {nccl.remedy}")
        return nccl
    try:
        numbers = find_architectures(Path(nccl.cuda_home) / "bin" / "nvcc", architectures)
    except ValueError as problem:
        raise RefusedBuild(str(problem)) from None
    return replace(nccl, architectures=numbers)


def _built_once(key: BuildKey, nccl: Nccl | NoNccl, cache: Path, out: TextIO) -> tuple[Path, str]:
    """The wheel that this process builds, or that another one has built meanwhile; and which of them."""
    # Without torch nothing of the project may be installed.
    from harness.sweep.machine_access import open_machine_access

    with build_lock(cache, out):
        wheel = find_wheel(key, cache)
        if wheel is not None:
            return wheel, "cached wheel"
        title = f"building Horovod {key.horovod} against torch {key.torch} (some minutes, once)"
        print(title, describe_operations(nccl), sep="\n", file=out, flush=True)
        # A compiler would disturb the trials of others.
        with open_machine_access("compiling Horovod") as access, access.held():
            return build_wheel(key, nccl, cache, out), "built"


def is_missing() -> bool:
    """Whether Horovod can't be used in this environment, and a build may change that."""
    build = read_horovod_build()
    return (build is not None and build.problem is not None) or importlib.util.find_spec("horovod") is None


def build_for_sweep(out: TextIO) -> None:
    """Install Horovod, and compile it where that is needed. A failure is recorded, and skips its cells with the reason.

    Args:
        out: Where to show how far it is.
    """
    install(out=out)
    importlib.invalidate_caches()


def install(*, compile_it: bool = True, out: TextIO | None = None) -> bool:
    """:func:`ensure_horovod` with what it says, or the recorded reason why it failed; returns whether it succeeded."""
    out = out or sys.stdout
    architectures = os.environ.get(ARCHITECTURES_VARIABLE)
    try:
        done = ensure_horovod(cache_folder("wheels"), architectures=architectures, compile_it=compile_it, out=out)
    except (BuildError, subprocess.CalledProcessError, OSError) as problem:
        write_horovod_build(HorovodBuild(name="none", problem=str(problem)))
        print(f"Horovod was not built: {problem}", file=out, flush=True)
        return False
    print(done, file=out, flush=True)
    return True


def describe_operations(nccl: Nccl | NoNccl) -> str:
    """What GPU tensors will be reduced by, in one line."""
    if isinstance(nccl, NoNccl):
        return f"without NCCL: {nccl.problem}" + (f"; {nccl.remedy}" if nccl.wanted else "")
    return f"with NCCL ({nccl.versions}) for architectures {', '.join(map(str, nccl.architectures)) or 'of nvcc'}"


def parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m harness.setup.horovod_wheel``."""
    arguments = argparse.ArgumentParser(
        prog="python -m harness.setup.horovod_wheel", description=(__doc__ or "").partition("\n")[0]
    )
    arguments.add_argument("--strict", action="store_true", help="exit 1 where Horovod can't be built")
    arguments.add_argument("--cuda", action="store_true", help="exit 1 where Horovod can't be built with NCCL")
    arguments.add_argument(
        "--architectures",
        metavar="80,90",
        default=os.environ.get(ARCHITECTURES_VARIABLE),
        help=f"compute capabilities to build for (default: {ARCHITECTURES_VARIABLE}, the GPUs here, or torch's)",
    )
    return arguments


def main() -> int:
    options = parser().parse_args()
    strict = options.strict or options.cuda
    try:
        done = ensure_horovod(cache_folder("wheels"), architectures=options.architectures, needs_nccl=options.cuda)
        print(done, flush=True)
    except RefusedBuild as problem:
        print(f"Horovod with NCCL was not built: {problem}", file=sys.stderr)
        return 1
    except (BuildError, subprocess.CalledProcessError, OSError) as problem:
        write_horovod_build(HorovodBuild(name="none", problem=str(problem)))
        print(f"Horovod was not built: {problem}\nIts cells will be skipped; everything else works.", flush=True)
        return 1 if strict else 0
    return 0


if __name__ == "__main__":
    install_hooks()
    sys.exit(main())
