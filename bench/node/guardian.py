"""The guardian: the parent of the forkserver, which ends whatever the processes of trials leave running.

It adopts processes whose parent has ended, so that none of them can leave the trial. It ends all of them when the
forkserver ends, when the process that started the trial is gone, however that ended, and at the latest possible end of
the trial where there is one: a node agent that is stopped by a signal keeps no time.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, cast

import psutil

from bench.host.process_tree import (
    END_LIMIT_S,
    END_PAUSE_S,
    adopt_orphans,
    children_of,
    descendants_of,
    end_all,
    is_alive,
    release,
)
from bench.host.processes import die_with_parent
from bench.host.scratch import open_scratch

DEADLINE_VARIABLE = "SCALING_DEADLINE_FILE"
"""The variable that names the file of :func:`set_deadline`; not set: there is no such time."""
DEADLINE_FILE = "deadline"
DEADLINE_CHECK_S = 30.0
"""How often a guardian looks whether its deadline has moved."""
END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
PARENT_ENDED = signal.SIGCONT
"""Comes when the parent ends, and by itself lets a guardian that is stopped go on; a user sends it as well."""
WATCHED_SIGNALS = (*END_SIGNALS, PARENT_ENDED, signal.SIGCHLD)
SIGNAL_STATUS = 128
"""The exit status of a guardian whose forkserver a signal has killed is larger, by the number of the signal."""
ENDED_BY_GUARDIAN = SIGNAL_STATUS + signal.SIGTERM
IS_LINUX = sys.platform == "linux"
CLOSING_S = 1.0
FIRST_DESCRIPTOR, LAST_DESCRIPTOR = 3, 2**20


def set_deadline(seconds: float) -> None:
    """Have the guardian of this process's forkserver end everything, and this process too, so many seconds from now.

    The first call comes before the forkserver is started; a later one moves that time, which a process that a signal
    has stopped does not do.
    """
    file = open_scratch() / DEADLINE_FILE
    os.environ[DEADLINE_VARIABLE] = str(file)
    with suppress(OSError):
        file.write_text(str(time.monotonic() + seconds))


def _read_deadline(known: float) -> float:
    """The deadline on the monotonic clock; ``known`` where its file is just being written, or is gone."""
    with suppress(OSError, ValueError, KeyError):
        return float(Path(os.environ[DEADLINE_VARIABLE]).read_text())
    return known


def continue_under_guardian(parent: int) -> None:
    """Continue in a new process, whose parent, this one, becomes its guardian and never returns.

    Where processes without a parent can't be adopted (other systems than Linux), this process goes on by itself.

    Args:
        parent: The process id of this process's parent, with whose end everything ends.
    """
    if not adopt_orphans():
        die_with_parent(parent)
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED_SIGNALS)
    die_with_parent(parent, PARENT_ENDED)
    guardian = os.getpid()
    child = os.fork()
    if child:
        # A pipe or a socket that it held open would never be closed for others.
        os.closerange(FIRST_DESCRIPTOR, LAST_DESCRIPTOR)
        os._exit(_guard(child, parent))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    die_with_parent(guardian)


def _guard(child: int, parent: int) -> int:
    """Wait until everything has to end, and end it; returns the exit status of the child."""
    deadline, check_s = _read_deadline(math.inf), DEADLINE_CHECK_S if DEADLINE_VARIABLE in os.environ else 86_400.0
    status = None
    while status is None:
        received = signal.sigtimedwait(WATCHED_SIGNALS, max(0.0, min(deadline - time.monotonic(), check_s)))
        deadline = _read_deadline(deadline)
        left_s = deadline - time.monotonic()
        if received is None and left_s <= 0:
            # Nobody else has kept the time. It is this process's parent still, else it would not have been left.
            with suppress(ProcessLookupError):
                if os.getppid() == parent:
                    os.kill(parent, signal.SIGKILL)
        if (received is None and left_s <= 0) or (received is not None and received.si_signo in END_SIGNALS):
            status = ENDED_BY_GUARDIAN
        elif received is not None:
            status = ENDED_BY_GUARDIAN if os.getppid() != parent else _reap(child)
    end_all(_find_descendants)
    return status


def _find_descendants() -> set[psutil.Process]:
    release(children_of(os.getpid()))
    return descendants_of(os.getpid())


def _reap(child: int) -> int | None:
    """Release what has ended; returns the exit status of the child, if that has."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = os.waitstatus_to_exitcode(ended[1])
    return None if found is None else found if found >= 0 else SIGNAL_STATUS - found


def guardian_pid() -> int | None:
    """The process id of the guardian, or of the forkserver where it has none; ``None``: neither was started."""
    # Python tells the process that it has started as a forkserver nowhere else.
    return cast("int | None", cast(Any, forkserver)._forkserver._forkserver_pid)


def find_forkserver() -> psutil.Process | None:
    """The forkserver of this process; ``None`` where there is none."""
    pid = guardian_pid()
    with suppress(psutil.Error):
        if pid is not None:
            # All others that the guardian has adopted are younger.
            children = sorted(children_of(pid), key=lambda child: child.create_time()) if IS_LINUX else []
            return children[0] if children else psutil.Process(pid)
    return None


class ForkserverWatch:
    """The forkserver that runs now, and how it ends."""

    def __init__(self) -> None:
        self._guardian = guardian_pid()
        self._forkserver = find_forkserver()

    @property
    def pid(self) -> int | None:
        """The process id of the forkserver."""
        return None if self._forkserver is None else self._forkserver.pid

    def exit_status(self) -> int | None:
        """Its exit status, below 0 for a signal; ``None`` where it runs, or nobody knows. Waits for the guardian, which
        tells it at its own end."""
        if self._guardian is None or self._forkserver is None:
            return None
        # Its pipes are closed a moment before it has ended.
        began = time.monotonic()
        while is_alive(self._forkserver):
            if time.monotonic() > began + CLOSING_S:
                return None
            time.sleep(END_PAUSE_S)
        while time.monotonic() < began + END_LIMIT_S:
            with suppress(ChildProcessError):
                # Without releasing it, which multiprocessing does.
                ended = os.waitid(os.P_PID, self._guardian, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is not None:
                    killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
                    status = -ended.si_status if killed else ended.si_status
                    return SIGNAL_STATUS - status if status > SIGNAL_STATUS else status
            time.sleep(END_PAUSE_S)
        return None
