"""The CUDA compiler that Horovod's NCCL build needs: from the package registry, or a toolkit that is installed.

torch's own packages hold the libraries; the extra ``cuda`` adds the compiler in the version that torch was built with.
Both lie in one tree, ``nvidia/cu13`` in site-packages. It lacks two names that nvcc and the linker look for; a build
works in a tree of links that has them (:func:`link_toolkit`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUERY_TIMEOUT_S = 120
SYSTEM_TOOLKIT = Path("/usr/local/cuda")

PARTS: Mapping[str, tuple[str, ...]] = {
    "nvcc": ("bin/nvcc",),
    "nvvm": ("nvvm/bin/cicc",),
    "crt": ("include/crt/host_defines.h",),
    "cccl": ("include/nv/target", "include/cccl/nv/target"),
    "cudart": ("lib/libcudadevrt.a", "lib64/libcudadevrt.a"),
}
"""Each part of the compiler, by the name of its extra of ``cuda-toolkit``, and the files of which one shows that it is
there."""

CAPABILITIES_QUERY = """
import json, pynvml as nvml
nvml.nvmlInit()
handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
print(json.dumps([10 * major + minor for major, minor in map(nvml.nvmlDeviceGetCudaComputeCapability, handles)]))
"""
TORCH_ARCHITECTURES_QUERY = """
import json, torch
print(json.dumps(torch.cuda.get_arch_list()))
"""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can compile. ``home``: its folder; ``version``: that of nvcc, such as ``13.0.88``."""

    home: Path
    version: str


@dataclass(frozen=True)
class NoToolkit:
    """Why there is none: ``problem`` names each part that is missing, or the version that does not fit."""

    problem: str
    remedy: str


def registry_tree(site_packages: Path, cuda: str) -> Path:
    """Where the packages of CUDA ``cuda`` (such as ``13.0``) have their files."""
    return site_packages / "nvidia" / f"cu{cuda.partition('.')[0]}"


def missing_parts(tree: Path) -> list[str]:
    """The parts of the compiler that a tree lacks, by the names of their extras of ``cuda-toolkit``."""
    return [part for part, files in PARTS.items() if not any((tree / file).exists() for file in files)]


def find_toolkit(
    site_packages: Path, cuda: str, env: Mapping[str, str] = os.environ, system: Path = SYSTEM_TOOLKIT
) -> Toolkit | NoToolkit:
    """The compiler for a torch that was built with CUDA ``cuda``.

    The packages beside torch come first, since they are of its own version. An installed toolkit (``CUDA_HOME``, nvcc
    on ``PATH``, ``system``) is taken where its major version is that of torch; it is complete by its installation.
    """
    tree = registry_tree(site_packages, cuda)
    missing = missing_parts(tree)
    problem = f"CUDA {cuda}: {', '.join(missing)} missing"
    if not missing:
        version = nvcc_version(tree / "bin" / "nvcc")
        if version is not None and version.split(".")[:2] == cuda.split(".")[:2]:
            return Toolkit(tree, version)
        problem = f"torch is built with CUDA {cuda}, and nvcc beside it is {version or 'not to be run'}"
    for nvcc in installed_compilers(env, system):
        version = nvcc_version(nvcc)
        if version is not None and version.partition(".")[0] == cuda.partition(".")[0]:
            return Toolkit(nvcc.parent.parent, version)
    return NoToolkit(problem, toolkit_remedy(missing or list(PARTS), cuda))


def toolkit_remedy(parts: Sequence[str], cuda: str) -> str:
    """How to install parts of the compiler (pure). Only since CUDA 13 do its packages share one tree."""
    major, minor = [*cuda.split("."), "0"][:2]
    if int(major) < 13:
        return f"install NVIDIA's CUDA toolkit {major}.{minor}, or a torch that is built with CUDA 13"
    return f'run `python -m pip install "cuda-toolkit[{",".join(parts)}]=={major}.{minor}.*"`'


def installed_compilers(env: Mapping[str, str], system: Path) -> Iterable[Path]:
    """nvcc of each toolkit that is installed outside of the environment. Links are followed to where it lies.

    A script that starts another nvcc does not lie beside the headers of its toolkit.
    """
    homes = [Path(env[name]) for name in ("CUDA_HOME", "CUDA_PATH") if env.get(name)]
    on_path = shutil.which("nvcc", path=env.get("PATH"))
    candidates = [*(home / "bin" / "nvcc" for home in homes), *([Path(on_path)] if on_path else [])]
    for candidate in (*candidates, system / "bin" / "nvcc"):
        # RuntimeError: links in a circle; PermissionError: the folder of another user.
        with suppress(OSError, RuntimeError):
            nvcc = candidate.resolve()
            if nvcc.exists() and (nvcc.parents[1] / "include" / "cuda_runtime.h").exists():
                yield nvcc


def nvcc_version(nvcc: Path) -> str | None:
    """The version of a compiler, such as ``13.0.88``; ``None`` where it can't be run."""
    try:
        done = subprocess.run([str(nvcc), "--version"], capture_output=True, timeout=QUERY_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bV(\d+(?:\.\d+)+)", done.stdout.decode(errors="replace"), re.ASCII)
    return found.group(1) if found else None


def link_toolkit(home: Path, folder: Path) -> Path:
    """A toolkit in which nvcc and the linker find what they look for.

    nvcc looks for libraries in ``lib64``, and the linker for ``libcudart.so``; the packages have ``lib`` and
    ``libcudart.so.13``. The folder ``bin`` is a real one with links in it: nvcc takes the folder above the one that it
    was started from for the toolkit, and a link to the folder would lead it back to the packages.

    Returns: ``home`` where nothing is missing, else ``folder``, which is made.
    """
    libraries = home / "lib64" if (home / "lib64").is_dir() else home / "lib"
    if (home / "lib64" / "libcudart.so").exists() or not (libraries / "libcudadevrt.a").exists():
        return home
    for name, source in (("bin", home / "bin"), ("lib64", libraries)):
        (folder / name).mkdir(parents=True)
        for entry in source.iterdir():
            (folder / name / entry.name).symlink_to(entry)
    (folder / "lib").symlink_to("lib64")
    for name in ("include", "nvvm"):
        (folder / name).symlink_to(home / name)
    runtime = next(iter(sorted(libraries.glob("libcudart.so.*"))), None)
    if runtime is not None and not (folder / "lib64" / "libcudart.so").exists():
        (folder / "lib64" / "libcudart.so").symlink_to(runtime.name)
    return folder


def choose_architectures(
    wished: str | None, present: Sequence[int], of_torch: Sequence[str], compilable: Sequence[int]
) -> tuple[int, ...]:
    """The compute capabilities to make device code for, such as ``(80, 90)`` (pure).

    Horovod adds code for the largest that later devices can translate, so that a device newer than all of them works
    too.

    Args:
        wished: What the user names: numbers such as ``80,90``.
        present: Those of the GPUs of this machine.
        of_torch: The architectures that torch was built for (``sm_90``), where no GPU is here.
        compilable: What nvcc knows; empty where it does not say.

    Raises: ``ValueError`` where ``wished`` is not a list of numbers that nvcc knows.
    """
    if wished:
        names = [name.strip() for name in wished.split(",")]
        unknown = [
            name
            for name in names
            if not re.fullmatch("[0-9]{1,4}", name) or (compilable and int(name) not in compilable)
        ]
        if unknown:
            hint = f"; this nvcc knows {', '.join(map(str, compilable))}" if compilable else ""
            raise ValueError(f"{', '.join(unknown)}: architectures are numbers such as 80,90{hint}")
        return tuple(sorted({int(name) for name in names}))
    matches = (re.fullmatch(r"sm_(\d+)[a-z]?", name) for name in of_torch)
    wanted = set(present) or {int(match.group(1)) for match in matches if match}
    known = wanted.intersection(compilable) if compilable else wanted
    # A device newer than the compiler takes the newest code that there is and translates it.
    return tuple(sorted(known)) or tuple(compilable[-1:])


def find_architectures(nvcc: Path, wished: str | None) -> tuple[int, ...]:
    """The architectures of this machine's GPUs, else of torch; see :func:`choose_architectures`."""
    listed = subprocess.run([str(nvcc), "--list-gpu-code"], capture_output=True, text=True, check=False).stdout
    compilable = sorted({int(number) for number in re.findall(r"\bsm_(\d+)\b", listed)})
    present: list[int] = [] if wished else _query(CAPABILITIES_QUERY)
    of_torch: list[str] = [] if wished or present else _query(TORCH_ARCHITECTURES_QUERY)
    return choose_architectures(wished, present, of_torch, compilable)


def _query(program: str) -> list[Any]:
    """What a small program prints, run by another interpreter; nothing where it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=False
        )
        return list(json.loads(done.stdout.strip().splitlines()[-1]))
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return []
