"""The stacks of processes that do not end: from the processes themselves, or from py-spy where they can't answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.host.commands import CommandTimeout, run_command
from bench.host.logs import printable_line, read_end

DUMP_WAIT_S = 0.5
PY_SPY_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class HungProcess:
    """A process that does not end, and the log that it writes its stacks to."""

    title: str
    pid: int
    log: Path
    stopped: bool


def dump_stacks(processes: Sequence[HungProcess]) -> dict[str, list[str]]:
    """The stacks of all threads of each process, in lines, by the process's title.

    They come from faulthandler where the process answers SIGUSR1, else from py-spy where that is installed and
    permitted; else a line says why there are none. A process that a signal has stopped is continued for that: it
    answers before it does anything else.
    """
    stacks: dict[str, list[str]] = {process.title: [] for process in processes}
    waiting = list(processes)
    while waiting:
        # Of those that share a log, as the ranks of a launcher do, one after the other.
        batch = list({process.log: process for process in reversed(waiting)}.values())
        waiting = [process for process in waiting if process not in batch]
        stacks |= _request_stacks(batch)
    return {process.title: stacks[process.title] or _run_py_spy(process) for process in processes}


def _request_stacks(processes: Sequence[HungProcess]) -> dict[str, list[str]]:
    """What processes with logs of their own answer to SIGUSR1."""
    sizes = {process.log: process.log.stat().st_size if process.log.exists() else 0 for process in processes}
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGUSR1)
            if process.stopped:
                os.kill(process.pid, signal.SIGCONT)
    time.sleep(DUMP_WAIT_S)
    return {process.title: _stacks_since(process.log, sizes[process.log]) for process in processes}


def _stacks_since(log: Path, size: int) -> list[str]:
    lines = read_end(log, size)
    return lines if any("most recent call first" in line for line in lines) else []


def find_py_spy() -> str | None:
    """The path of py-spy in this environment, else on ``PATH``; ``None`` where there is none."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _run_py_spy(process: HungProcess) -> list[str]:
    state = "it did not answer SIGUSR1"
    spy = find_py_spy()
    if spy is None:
        return [f"no stack: {state}; `pip install py-spy` makes it readable"]
    try:
        result = run_command([spy, "dump", "--nonblocking", "--pid", str(process.pid)], PY_SPY_TIMEOUT_S)
    except (OSError, CommandTimeout) as problem:
        return [f"no stack: {state}, and py-spy failed ({problem})"]
    stack_lines = (result.stdout or result.stderr).strip().splitlines()
    if result.returncode:
        return [
            (
                f"no stack: {state}, and py-spy failed "
                f"({stack_lines[-1] if stack_lines else f'status {result.returncode}'})"
            )
        ]
    return [printable_line(line) for line in stack_lines]
