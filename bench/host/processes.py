"""Processes of this machine: how they end with others, and what state they are in."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from typing import Literal

import psutil

EXIT_GRACE_S = 2.0
"""How long processes may take to end by themselves: to report a failure that another one caused, or after SIGTERM."""
LAUNCHER_PID_VARIABLE = "SCALING_LAUNCHER_PID"
"""The variable that holds the process id of the launcher (mpirun, torchrun) that starts a process."""
KILL_ROUNDS, KILL_PAUSE_S = 20, 0.01
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends (Linux only).

    Args:
        parent: The process id of the expected parent. If that process has ended before this call, no signal would come,
            and this process exits at once.
        by: The signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def die_with_launcher() -> None:
    """Have the kernel kill this process when its launcher ends; exit if the launcher has ended already.

    A process that takes seconds to import its modules may outlive the launcher before it gets here. The launcher need
    not be the parent: an ``mpirun`` may be a script that starts another one.
    """
    die_with_parent()
    launcher = os.environ.get(LAUNCHER_PID_VARIABLE)
    if launcher is not None and not pid_alive(int(launcher)):
        os._exit(1)


def kill_session(leader: int) -> None:
    """Kill all processes of a session: the descendants of its leader, in whatever process groups, and no others."""
    for _ in range(KILL_ROUNDS):
        members = [pid for pid in psutil.pids() if _is_in_session(pid, leader)]
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            return
        time.sleep(KILL_PAUSE_S)


def _is_in_session(pid: int, leader: int) -> bool:
    try:
        return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def pid_alive(pid: int) -> bool:
    """Whether there is a process of this id that has not ended; a zombie has."""
    return process_state(pid) != "ended"


def process_state(pid: int) -> Literal["running", "stopped", "ended"]:
    """Whether a process has ended (a zombie has), is stopped by a signal such as SIGSTOP, or runs, also under a
    debugger."""
    try:
        status = psutil.Process(pid).status()
    except psutil.Error:
        return "ended"
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return "ended"
    return "stopped" if status == psutil.STATUS_STOPPED else "running"


def describe_status(status: int | None) -> str:
    """What is said of an exit status, below 0 for a signal (pure): ``was killed by SIGKILL``."""
    if status is None:
        return "ended"
    if status >= 0:
        return f"exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


def cpu_limit_s() -> int | None:
    """The processor time after which the kernel kills a process like this one; ``None``: there is no such limit."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    return None if hard_limit == resource.RLIM_INFINITY else hard_limit
