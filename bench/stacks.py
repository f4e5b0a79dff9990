"""Where processes are stuck: they are asked for their threads' stacks; those that can't answer are looked into."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE_S = 0.5
LOOK_S = 10.0


@dataclass(frozen=True)
class Stuck:
    """A process that did not end, and the log that its own stacks go to."""

    title: str
    pid: int
    log: Path
    stopped: bool


def is_stopped(pid: int) -> bool:
    """Whether somebody sent it SIGSTOP."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def gather(stuck: Sequence[Stuck]) -> dict[str, list[str]]:
    """The stacks of each process by title: from faulthandler where the process can still answer SIGUSR1, else from
    py-spy where that is installed and allowed, else a line that says why there are none."""
    sizes = {one.log: one.log.stat().st_size if one.log.exists() else 0 for one in stuck}
    for one in stuck:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, signal.SIGUSR1)
    if stuck:
        time.sleep(PATIENCE_S)
    found = {}
    for one in stuck:
        said = [] if one.stopped else _since(one.log, sizes[one.log])
        found[one.title] = said or _look_into(one)
    return found


def _since(log: Path, size: int) -> list[str]:
    with contextlib.suppress(OSError), log.open(errors="replace") as file:
        file.seek(size)
        lines = file.read().splitlines()
        return lines if any("most recent call first" in line for line in lines) else []
    return []


def find_py_spy() -> str | None:
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _look_into(one: Stuck) -> list[str]:
    state = "it is stopped" if one.stopped else "it did not answer SIGUSR1"
    spy = find_py_spy()
    if spy is None:
        return [f"no stack: {state}; with `pip install py-spy` its stack could be read all the same"]
    try:
        seen = subprocess.run([spy, "dump", "--nonblocking", "--pid", str(one.pid)], capture_output=True, text=True,
                              timeout=LOOK_S, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as problem:
        return [f"no stack: {state}, and py-spy failed ({problem})"]
    said = (seen.stdout or seen.stderr).strip().splitlines()
    if seen.returncode:
        return [f"no stack: {state}, and py-spy failed ({said[-1] if said else f'status {seen.returncode}'})"]
    return said
