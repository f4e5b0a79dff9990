"""The project as `pip install` leaves it: a wheel in a virtual environment of its own, away from the sources."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

OWN_PACKAGES = ("bench", "reports", "harness")


@cache
def build_wheel(folder: Path) -> Path:
    """Build the wheel of the sources with the environment's own build backend; nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(folder: Path) -> Path:
    """Install the wheel into a new virtual environment that sees the other packages of this one.

    Returns:
        The folder of the environment's programs.
    """
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    wheel = build_wheel(folder / "dist")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, env=environment_variables())
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # A folder that is named in a .pth file has its own .pth files ignored: an editable install stays out of sight.
    (site_packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def environment_variables(**more: str) -> dict[str, str]:
    """This process's variables without those that change where Python imports from."""
    left_out = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {**{name: value for name, value in os.environ.items() if name not in left_out}, **more}


def plant_own_packages(folder: Path, *names: str) -> None:
    """Put packages with our names into a user's folder; importing one of them fails."""
    for name in names or OWN_PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"raise RuntimeError('the {name} of the current folder was imported')\n"
        )
