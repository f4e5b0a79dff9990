"""What is installed in this environment, and the cache folders outside of the checkout. Loads no framework."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
import sysconfig
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.host.running_code import ORIGIN

CHECKOUT = ORIGIN
"""The folder of the sources; where the project is installed as a wheel, that of all packages."""
HOROVOD_BUILD_COMMAND = "python -m harness.setup.horovod_wheel --strict"


def cache_folder(name: str) -> Path:
    """A folder of the user's cache, shared by all checkouts and environments.

    A user without a home, such as one that only a container's ``--user`` names, has none: nothing can be written there.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    if not root:
        try:
            root = str(Path.home() / ".cache")
        except RuntimeError:
            root = f"{os.devnull}/.cache"
    return Path(root) / "scaling-harness" / name


@dataclass(frozen=True)
class HorovodBuild:
    """The result of the last build of Horovod in this environment."""

    name: str
    mpi: bool = False
    nccl: bool = False
    problem: str | None = None
    """Why it failed, in one line; ``None`` where it succeeded."""
    no_nccl: str | None = None
    """What a build with NCCL lacked, with the remedy; ``None`` where it has NCCL or torch is built for CPUs."""


def _build_file() -> Path:
    return Path(sys.prefix) / "horovod-build.json"


def read_horovod_build() -> HorovodBuild | None:
    """The last build in this environment; ``None`` where Horovod was not built by this project."""
    try:
        return HorovodBuild(**json.loads(_build_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_horovod_build(build: HorovodBuild) -> None:
    """Keep the result of a build for :func:`read_horovod_build`, where the environment can be written."""
    with suppress(OSError):
        _build_file().write_text(json.dumps(asdict(build)) + "\n")


def find_mpirun() -> str | None:
    """The path of mpirun in this environment, else on ``PATH``; ``None`` where there is none."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


_installed: set[str] = set()
"""The modules that :func:`is_installed` found."""


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported. Loads nothing.

    One that was found is not looked for again, since a plan asks for each of its cases; one that is missing is: it may
    be installed meanwhile.
    """
    if module not in _installed and importlib.util.find_spec(module) is not None:
        _installed.add(module)
    return module in _installed


def torch_cuda_version() -> str | None:
    """The CUDA version that torch was built with, read from its files; ``None`` for a CPU build or without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    for line in (Path(spec.origin).parent / "version.py").read_text().splitlines():
        if line.startswith("cuda") and "'" in line:
            return line.split("'")[1]
    return None


def install_command(extra: str, checkout: Path = CHECKOUT) -> str:
    """The shell command that installs one of the project's extras into this environment.

    The project need not be on a package index: pip takes an extra from the checkout, or from the installed project.

    Args:
        extra: Its name in ``pyproject.toml``.
        checkout: The folder of the sources, where it is one.
    """
    if not _is_checkout(checkout):
        return f'{_pip_install()} "scaling-harness[{extra}]"'
    constraints = shlex.quote(_seen_from_here(checkout / "constraints.txt"))
    package = f'-c {constraints} -e "{_seen_from_here(checkout)}[{extra}]"'
    if sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        environment = shlex.quote(_seen_from_here(checkout / ".venv"))
        return f"{_python()} -m venv {environment} && {environment}/bin/python -m pip install {package}"
    return f"{_pip_install()} {package}"


def frameworks_remedy(checkout: Path = CHECKOUT) -> str:
    """How to run where the frameworks are installed: an environment beside the sources, tox, or pip."""
    if _is_checkout(checkout):
        neighbour = checkout / ".venv"
        if neighbour != Path(sys.prefix) and any(neighbour.glob("lib/python*/site-packages/torch")):
            return f"run `{_seen_from_here(neighbour)}/bin/python -m harness`, which has it"
        if checkout / ".tox" in Path(sys.prefix).parents:
            # What is installed there by hand is lost when tox makes the environment again.
            root = "" if checkout == Path.cwd() else f" -c {shlex.quote(str(checkout))}"
            return f"run `tox run{root} -e sweep`"
    return f"run `{install_command('frameworks', checkout)}`"


def _is_checkout(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "constraints.txt").is_file()


def _seen_from_here(path: Path) -> str:
    """A path relative to the current folder where it lies in it, else absolute."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _pip_install() -> str:
    """``python -m pip install`` for the interpreter of this process; uv's, where the environment has no pip."""
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {_python()}"
    return f"{_python()} -m pip install"


def _python() -> str:
    """The interpreter of this process, as a shell finds it."""
    on_path = shutil.which("python")
    same = on_path is not None and Path(on_path).parent == Path(sys.executable).parent
    return "python" if same else shlex.quote(sys.executable)
