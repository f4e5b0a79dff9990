"""A command run to its end, with the peak of its own memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

# The kernel counts the memory of the process that started a command as the command's own, and that of pytest is large.
SMALL_PARENT = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Measured(NamedTuple):
    """How a command ended."""

    returncode: int
    stderr: str
    peak_kib: int
    """Largest resident size of this process."""


def run_measured(command: list[str], folder: Path) -> Measured:
    """Run a command in the repository's root; its peak goes through a file in ``folder``."""
    peak = folder / "peak"
    small_parent = [sys.executable, "-c", SMALL_PARENT, str(peak)]
    done = subprocess.run([*small_parent, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return Measured(done.returncode, done.stderr, int(peak.read_text()))
