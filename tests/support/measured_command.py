"""A command run to its end, with the peak of its own memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT


class Measured(NamedTuple):
    """How a command ended."""

    returncode: int
    stderr: str
    peak_kib: int
    """Largest resident size of this process; ``RUSAGE_CHILDREN`` would give that of every child before it too."""


def run_measured(command: list[str], folder: Path) -> Measured:
    """Run a command in the repository's root; its messages go through a file in ``folder``."""
    messages = folder / "messages"
    with messages.open("w") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(process.returncode, messages.read_text(), usage.ru_maxrss)
