"""Starts and joins processes of the forkserver within limits.

Both wait for the forkserver: it tells the process id of a new process, and the exit status of an old one. A forkserver
that is stopped by a signal, or hangs, would be waited for without end; it is killed instead, which ends the wait and
all processes that came from it. The next start gets a new one.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from typing import Any, cast

import psutil

from bench.host.process_tree import is_alive, kill_all
from bench.host.processes import KILL_PAUSE_S, pid_alive, process_state
from bench.node.guardian import find_forkserver, guardian_pid

START_LIMIT_S = 300.0
"""How long the forkserver may take to start a process; it imports the frameworks before the first one."""
STOPPED_LIMIT_S = 10.0
"""How long it may be stopped by a signal meanwhile."""
JOIN_LIMIT_S = 5.0
"""How long it may take to report the end of processes that were killed."""
KILL_LIMIT_S = 5.0
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
ROOM_REMEDY = "use fewer ranks, or raise the limits that `ulimit -a` shows"
CHECK_INTERVAL_S = 0.5


END_WAIT_S = 2.0
"""How long this process waits at its own end for the forkserver and its guardian."""

_last_forkserver: list[psutil.Process] = []  # that has started a process


class StartError(Exception):
    """A process could not be started. The text says why."""


def ensure_forkserver() -> None:
    """Start the forkserver if it does not run."""
    if _last_forkserver and not is_alive(_last_forkserver[0]):
        # Its guardian, whose end multiprocessing looks for, takes a moment longer.
        _wait_for_guardian()
    # A terminal sends an interrupt to the forkserver too, where it would be a traceback while modules are imported. The
    # resource tracker goes first: it is started by ensure_running too, and unblocks the signal.
    resource_tracker.ensure_running()
    atexit.unregister(continue_resource_tracker)
    atexit.register(continue_resource_tracker)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def continue_resource_tracker() -> None:
    """Continue multiprocessing's resource tracker if a signal has stopped it, when this process ends: it could not end
    with it, and would hold standard error open for those that read it."""
    pid = cast("int | None", cast(Any, resource_tracker)._resource_tracker._pid)
    if pid is not None and process_state(pid) == "stopped":
        with suppress(OSError):
            os.kill(pid, signal.SIGCONT)


def start_within_limit(process: BaseProcess, stopped_limit_s: float = STOPPED_LIMIT_S) -> None:
    """Start a process from the forkserver.

    Args:
        process: Of a context of the forkserver.
        stopped_limit_s: How long the forkserver may be stopped by a signal meanwhile, in seconds.

    Raises:
        StartError: If the forkserver ends, is stopped or hangs meanwhile.
    """
    with _stuck_forkserver_killed(stopped_limit_s) as watch:
        try:
            try:
                _start(process)
            except (EOFError, ConnectionError):
                if watch.reason or not _last_has_ended():
                    raise
                # It was ending when it was asked: the next one starts it.
                _start(process)
        except (EOFError, ConnectionError, BlockingIOError) as problem:
            raise StartError(f"{process.name} could not be started: {watch.reason or _reason_of(problem)}") from None
        except OSError as problem:
            if problem.errno not in NO_ROOM:
                raise
            raise StartError(f"{process.name} could not be started: {problem.strerror}; {ROOM_REMEDY}") from None


def join_within_limit(processes: Sequence[BaseProcess], limit_s: float = JOIN_LIMIT_S) -> None:
    """Join processes that were killed, and kill the forkserver if it does not report their ends in time.

    Args:
        processes: They were started by :func:`start_within_limit`.
        limit_s: In seconds.
    """
    deadline = time.monotonic() + limit_s
    waiting = {process.sentinel: process for process in processes}
    while waiting and (left := deadline - time.monotonic()) > 0:
        for sentinel in cast(list[int], wait_for_any(list(waiting), timeout=left)):
            waiting.pop(sentinel)
    if waiting:
        _kill_forkserver()
    for process in processes:
        process.join()


class _Watch:
    """Looks at the forkserver until :attr:`finished`. ``reason``: why it was killed, if it was."""

    def __init__(self, stopped_limit_s: float) -> None:
        self.stopped_limit_s = stopped_limit_s
        self.finished, self.reason = threading.Event(), ""

    def run(self) -> None:
        began = running = time.monotonic()
        while not self.finished.wait(CHECK_INTERVAL_S):
            now, pid = time.monotonic(), _forkserver_pid()
            if pid is None or process_state(pid) != "stopped":
                running = now
            if now - running >= self.stopped_limit_s:
                self._give_up(f"the forkserver (process {pid}) was stopped by a signal")
            elif now - began >= START_LIMIT_S:
                self._give_up(f"the forkserver (process {pid}) did not answer within {START_LIMIT_S:g} s")

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self.finished.set()
        _kill_forkserver()


@contextmanager
def _stuck_forkserver_killed(stopped_limit_s: float) -> Iterator[_Watch]:
    watch = _Watch(stopped_limit_s)
    threading.Thread(target=watch.run, name="forkserver-watch", daemon=True).start()
    try:
        yield watch
    finally:
        watch.finished.set()


def _reason_of(problem: Exception) -> str:
    pid = _forkserver_pid()
    return f"the forkserver (process {pid}) ended ({type(problem).__name__}); its messages are on standard error"


def _forkserver_pid() -> int | None:
    process = find_forkserver()
    return None if process is None else process.pid


def _start(process: BaseProcess) -> None:
    ensure_forkserver()
    process.start()
    _remember_forkserver()


def _last_has_ended() -> bool:
    return bool(_last_forkserver) and _has_ended_within(_last_forkserver[0].pid, END_WAIT_S)


def _remember_forkserver() -> None:
    if not _last_forkserver or not is_alive(_last_forkserver[0]):
        process = find_forkserver()
        _last_forkserver[:] = [] if process is None else [process]


def _kill_forkserver() -> None:
    if (process := find_forkserver()) is not None:
        kill_all([process])
        _wait_for_guardian()


def _wait_for_guardian() -> None:
    """Wait until the guardian has ended all that came from a forkserver that has ended; kill it where it does not."""
    if (pid := guardian_pid()) is None or _has_ended_within(pid, KILL_LIMIT_S):
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _has_ended_within(pid, KILL_LIMIT_S)


def _has_ended_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while pid_alive(pid) and time.monotonic() < deadline:
        time.sleep(KILL_PAUSE_S)
    return not pid_alive(pid)


def end_forkserver() -> None:
    """End the forkserver and all that came from it. A second call does nothing."""
    pid = guardian_pid()
    if pid is None:
        return
    deadline = time.monotonic() + END_WAIT_S
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while pid_alive(pid) and time.monotonic() < deadline:
            # One that is stopped by a signal, which may come at any time, would stay, and be waited for without end.
            os.kill(pid, signal.SIGCONT)
            time.sleep(KILL_PAUSE_S)
