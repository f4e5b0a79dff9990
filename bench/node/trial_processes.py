"""All processes of a trial on this machine, those that have left its sessions too: found, and ended."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import Any, cast

import psutil

from bench.host.ownership import starter_environment
from bench.host.process_tree import adopt_orphans, children_of, descendants_of, end_all, is_alive, release
from bench.node.guardian import find_forkserver, guardian_pid


class TrialProcesses:
    """The processes that descend from the forkserver, or that this process has adopted, and were not there before.

    Made before the first process of the trial starts. From then on this process adopts the descendants of a guardian
    that was killed. Trials of one process take turns.
    """

    def __init__(self) -> None:
        self.complete = adopt_orphans()
        """Whether a process whose parent ends is found; else only those below the forkserver are."""
        self._before = self._children() | self._below_guardian()

    def environment(self) -> dict[str, str]:
        """The variables by which a process of the trial tells its others from those of earlier trials."""
        starter = guardian_pid()
        return {} if starter is None else starter_environment(starter, [process.pid for process in self._before])

    def find(self) -> set[psutil.Process]:
        """Those that have not ended."""
        adopted = self._children() - self._before
        release(adopted)
        below = self._below_guardian()
        for process in below & self._before:
            below -= {process, *descendants_of(process.pid)}
        found = {process for process in adopted if is_alive(process)} | below
        for process in adopted:
            found |= descendants_of(process.pid)
        return found

    def end(self) -> None:
        """Kill all of them; those of the machine that do not end then are left."""
        end_all(self.find)

    def left_running(self, sessions: Collection[int]) -> tuple[str, ...]:
        """Those that have left their session and outlived what started them, as texts such as ``sleep (process 77)``.

        Args:
            sessions: Process ids of the leaders of the trial's own sessions.
        """
        parents = {os.getpid(), guardian_pid()}
        return tuple(sorted(_titles(self.find(), parents, sessions)))

    def _children(self) -> set[psutil.Process]:
        """This process's children but those that Python's multiprocessing keeps, and starts again where they end."""
        kept = {guardian_pid(), cast(Any, resource_tracker)._resource_tracker._pid}
        return {child for child in children_of(os.getpid()) if child.pid not in kept}

    def _below_guardian(self) -> set[psutil.Process]:
        pid = guardian_pid()
        return set() if pid is None else descendants_of(pid) - {find_forkserver()}


def _titles(
    processes: Collection[psutil.Process], parents: Collection[int | None], sessions: Collection[int]
) -> Iterator[str]:
    for process in processes:
        with suppress(psutil.Error, ProcessLookupError):
            if process.ppid() in parents and os.getsid(process.pid) not in sessions:
                yield f"{process.name()} (process {process.pid})"
