"""An environment of a side's own: what a user's install command makes of one commit.

It sees the packages of the running environment, the harness among them; what the command installs comes before these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.core.text import one_line
from bench.host.logs import last_lines
from bench.host.processes import die_with_parent
from harness.sites.base.running_trial import utc_now

INSTALL_LIMIT_S = 3600.0
ENVIRONMENT, INSTALL_LOG = "environment", "install.log"
PROGRAMS = "bin"
OTHER_PACKAGES = "running-environment.pth"
REPLACED_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
"""Variables that would lead an installer past the environment."""
MAX_SHOWN = 300


class InstallError(Exception):
    """The environment could not be made; the message is one line."""


def install_side(command: str, checkout: Path, folder: Path) -> Path:
    """Make an environment and run a command in it, in the working tree of a commit.

    Args:
        command: For ``sh -c``; ``pip`` and ``python`` are those of the environment.
        checkout: The working tree.
        folder: For the environment and the log of the command.

    Returns:
        The folder of the environment's programs.

    Raises:
        InstallError: The environment can't be made, or the command fails.
    """
    environment, log = (folder / ENVIRONMENT).resolve(), folder / INSTALL_LOG
    programs = environment / PROGRAMS
    making = [sys.executable, "-m", "venv", "--clear", str(environment)]
    _run(making, folder, log, dict(os.environ), f"an environment can't be made ({sys.executable} -m venv)")
    _add_packages(environment)
    env = {name: value for name, value in os.environ.items() if name not in REPLACED_VARIABLES}
    env |= {
        "VIRTUAL_ENV": str(environment),
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
    }
    shown = one_line(command, MAX_SHOWN)
    _run(["sh", "-c", command], checkout, log, env, f"the install command `{shown}` failed")
    return programs


def _add_packages(environment: Path) -> None:
    """Let the environment see the packages of the running one, and those it sees itself through its ``.pth`` files."""
    (site_packages,) = environment.glob("lib/python*/site-packages")
    here = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    lines = [f"import site; site.addsitedir({str(place)!r})" for place in dict.fromkeys(here)]
    (site_packages / OTHER_PACKAGES).write_text("\n".join(lines) + "\n")


def _run(command: list[str], folder: Path, log: Path, env: dict[str, str], failure: str) -> None:
    """Run a command to its end, its output in the log; interrupts end it. Raises :class:`InstallError`."""
    with log.open("ab") as output:
        output.write(f"{utc_now()} {one_line(' '.join(command), MAX_SHOWN)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            status = process.wait(INSTALL_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise InstallError(f"{failure}: it took more than {INSTALL_LIMIT_S:g} s; see {log}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        last = next(reversed([line for line in last_lines(log, 20) if line.strip()]), "")
        raise InstallError(f"{failure} with status {status}: {one_line(last, MAX_SHOWN)}; see {log}")
