"""processes"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import psutil


def die_with_parent(parent: int | None = None) -> None:
    """SIGKILL this process when its parent goes (Linux only; elsewhere the harness ends what it started).

    ``parent``: who that is meant to be. If it has gone before this was called, no signal would ever come.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


PR_SET_PDEATHSIG = 1


def kill_session(leader: int) -> None:
    """End every process of a session: its leader's descendants, whatever process groups they made, and nobody else."""
    for _ in range(KILL_ROUNDS):
        workers = [pid for pid in psutil.pids() if _is_in_session(pid, leader)]
        for pid in workers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not workers:
            return


KILL_ROUNDS = 20


def _is_in_session(pid: int, leader: int) -> bool:
    try:
        return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def pid_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def count_memory_kills() -> int:
    """How many processes the kernel has ended for lack of memory since it started; 0 where it does not say."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/vmstat").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
    return 0


def is_stopped(pid: int) -> bool:
    """Whether somebody sent it SIGSTOP."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


EXIT_GRACE_S = 3.0


EXIT_GRACE_S = 2.0
