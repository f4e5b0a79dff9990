"""One run of a whole command in a process of its own: what it said, and what it took."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    status: int
    said: str
    peak_bytes: int
    cpu_s: float


def harness(*arguments: str | Path) -> Ran:
    """``python -m harness`` with these arguments; its modules are compiled once, as those of an installation are."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "harness", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    said = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ran(process.returncode, said, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
