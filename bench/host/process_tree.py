"""Descendants of a process, in whatever sessions: found, and ended.

A process whose parent ends is adopted by the nearest ancestor that asked for it (a subreaper, Linux only), else by the
first process of the machine. Below a subreaper nothing gets away: no session of its own, no second fork, no changed
title and no other environment makes a process less of a descendant.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
END_LIMIT_S = 5.0
"""How long descendants may take to end after SIGKILL: one that waits for a device takes as long as that."""
END_PAUSE_S = 0.01
EMPTY_ROUNDS = 2
"""So often no descendant has to be found: one whose parent ends meanwhile is missed once."""


def adopt_orphans() -> bool:
    """Make this process the parent of all its descendants whose parent ends; returns whether the system does that."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def children_of(pid: int) -> set[psutil.Process]:
    """The children of a process, ended ones that were not waited for included; none where it has ended itself."""
    with suppress(psutil.Error):
        known = _child_ids(pid)
        if known is None:
            return set(psutil.Process(pid).children())
        return set(_existing(known))
    return set()


def descendants_of(pid: int) -> set[psutil.Process]:
    """The descendants of a process that have not ended; none where it has ended itself."""
    with suppress(psutil.Error):
        if _child_ids(pid) is None:
            return {process for process in psutil.Process(pid).children(recursive=True) if is_alive(process)}
        found: set[psutil.Process] = set()
        unseen = children_of(pid)
        while unseen:
            found |= unseen
            unseen = {child for process in unseen for child in children_of(process.pid)} - found
        return {process for process in found if is_alive(process)}
    return set()


def _child_ids(pid: int) -> list[int] | None:
    """By the kernel's lists of each thread, without a look at all processes of the machine; ``None`` where it has no
    such lists."""
    ids: list[int] = []
    lists: list[Path] = []
    with suppress(OSError):
        # A process that ends meanwhile has no such folder any more.
        lists = list(Path(f"/proc/{pid}/task").glob("*/children"))
    for path in lists:
        with suppress(OSError):
            ids += map(int, path.read_text().split())
    return ids if lists else None


def _existing(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; a zombie has, and so has one whose id is another process's by now."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to processes; those that have ended are left alone, whoever has their ids now."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def release(children: Iterable[psutil.Process]) -> None:
    """Release those of this process's children that have ended."""
    for child in children:
        with suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)


def end_all(find: Callable[[], set[psutil.Process]], limit_s: float = END_LIMIT_S) -> set[psutil.Process]:
    """Kill processes until no more are found.

    Args:
        find: Finds those that have not ended.
        limit_s: How long that may take, in seconds.

    Returns:
        Those that have not ended by then.
    """
    deadline, empty_rounds = time.monotonic() + limit_s, 0
    while True:
        left = find()
        empty_rounds = 0 if left else empty_rounds + 1
        if empty_rounds == EMPTY_ROUNDS or time.monotonic() > deadline:
            return left
        if left:
            kill_all(left)
            time.sleep(END_PAUSE_S)
