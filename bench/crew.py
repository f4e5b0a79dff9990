"""The processes of a trial on one machine: started, watched until the first ends badly, ended with all they started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import psutil

from bench.case import Role
from bench.progress import Whereabouts, read_progress
from bench.scene import Gone, Scene
from bench.stacks import Stuck, gather, is_stopped

KILL_ROUNDS = 20
LAST_WORDS_S = 2.0
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Member:
    """One started process of a role; a launcher (mpirun, torchrun) stands for all the ranks that it starts here."""

    role: Role
    number: int
    process: BaseProcess
    log: Path
    launcher: str | None = None

    @property
    def title(self) -> str:
        return f"{self.role.name} {self.number}"


class Orders(Protocol):
    """Whoever may tell a crew to end: a file descriptor to wait for, and what is read there."""

    @property
    def descriptors(self) -> Sequence[int]: ...

    def heard(self) -> bool: ...


class Outsiders:
    """Ranks of this machine that somebody else starts and ends: known by the notes they keep in the trial's folder."""

    def __init__(self, folder: Path, ranks: Sequence[int]) -> None:
        self.folder, self.ranks = folder, tuple(ranks)

    def seen(self) -> list[Whereabouts]:
        # A note that has just been begun names no process yet.
        return [one for one in read_progress(self.folder) if one.rank in self.ranks and one.pid]

    def unfinished(self) -> bool:
        """Whether one of them still lives, or has not begun."""
        seen = self.seen()
        return len(seen) < len(self.ranks) or any(_alive(one.pid) for one in seen)

    def lost(self) -> list[Gone]:
        """Those that have gone without their record."""
        return [
            Gone("rank", one.rank, None, self.folder / f"rank-{one.rank}.log", time.time())
            for one in self.seen()
            if not _alive(one.pid) and not (self.folder / f"record-{one.rank}.json").exists()
        ]

    def end(self) -> None:
        """End those that whoever started them has left behind."""
        for one in self.seen():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(one.pid)
                # The number may be another process's by now.
                if str(self.folder) in process.cmdline():
                    process.kill()


class Crew:
    """The processes of one trial on this machine."""

    def __init__(self, folder: Path, outsiders: Outsiders | None = None) -> None:
        self.folder, self.outsiders = folder, outsiders
        self.members: list[Member] = []
        self.ended = False
        self._memory_kills = count_memory_kills()

    def watch(self, timeout_s: float, orders: Orders | None = None) -> Scene:
        """Wait until all but the services are done, one ends badly, ``orders`` say so or the time is up. Nothing is
        ended but the observers."""
        first, dismissed = self._await_end(time.monotonic() + timeout_s, orders)
        if first is not None:
            # Whoever fails next because of it may still say so.
            self._linger(self._unfinished(), LAST_WORDS_S)
        self._dismiss_observers()
        return self._look_around(first, timeout_s, dismissed=dismissed)

    def _unfinished(self) -> list[Member]:
        return [member for member in self.members if not member.role.service and member.process.is_alive()]

    def _at_work(self) -> bool:
        """Whether there is somebody to wait for. Where there are only services, their own end is the end."""
        if self.outsiders is not None:
            return self.outsiders.unfinished()
        lasting = [member for member in self.members if not member.role.observer]
        if all(member.role.service for member in lasting):
            return any(member.process.is_alive() for member in lasting)
        return bool(self._unfinished())

    def _await_end(self, deadline: float, orders: Orders | None) -> tuple[Member | Gone | None, bool]:
        """The first process that ended badly, if one did, and whether the crew was told to end."""
        running = [member for member in self.members if not member.role.observer]
        while self._at_work():
            left = deadline - time.monotonic()
            if left <= 0:
                return None, False
            heard: Sequence[int] = orders.descriptors if orders else ()
            wait_for_any(
                [*(member.process.sentinel for member in running), *heard],
                timeout=min(left, LOOK_AGAIN_S) if self.outsiders else left,
            )
            if orders is not None and orders.heard():
                return None, True
            if self.outsiders is not None and (lost := self.outsiders.lost()):
                return lost[0], False
            for member in [member for member in running if not member.process.is_alive()]:
                running.remove(member)
                if member.process.exitcode != 0 or (member.role.service and self._unfinished()):
                    return member, False
        return None, False

    def _linger(self, members: list[Member], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while members and (left := deadline - time.monotonic()) > 0:
            wait_for_any([member.process.sentinel for member in members], timeout=left)
            members = [member for member in members if member.process.is_alive()]

    def _dismiss_observers(self) -> None:
        observers = [member for member in self.members if member.role.observer and member.process.is_alive()]
        for member in observers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.process.pid or 0, signal.SIGTERM)
        self._linger(observers, LAST_WORDS_S)

    def _look_around(self, first: Member | Gone | None, timeout_s: float, *, dismissed: bool) -> Scene:
        """What there is to see before everything is ended."""
        if first is None and (dismissed or not self._at_work()):
            return Scene(timed_out=False, timeout_s=timeout_s, dismissed=dismissed)
        stuck = self._stuck()
        bad = [member for member in self.members if not member.role.observer and member.process.exitcode]
        ended: list[Member | Gone] = [one for one in (first,) if one is not None]
        ended += [member for member in bad if member is not first]
        return Scene(
            timed_out=first is None,
            timeout_s=timeout_s,
            gone=tuple(one if isinstance(one, Gone) else _as_gone(one) for one in ended),
            stopped=tuple(one.title for one in stuck if one.stopped),
            stacks=gather(stuck),
            out_of_memory=count_memory_kills() > self._memory_kills,
        )

    def _stuck(self) -> list[Stuck]:
        """Every rank that is still there, and whatever else the backend started; the ranks of a launcher too."""
        found = []
        if self.outsiders is not None:
            found += [_stuck(one, self.folder) for one in self.outsiders.seen() if _alive(one.pid)]
        for member in self.members:
            pid = member.process.pid
            if member.role.observer or pid is None or not member.process.is_alive():
                continue
            if member.launcher:
                found += [
                    Stuck(f"rank {one.rank}", one.pid, member.log, is_stopped(one.pid))
                    for one in read_progress(self.folder)
                    if psutil.pid_exists(one.pid)
                ]
            else:
                found.append(Stuck(member.title, pid, member.log, is_stopped(pid)))
        return found

    def end(self) -> None:
        """End all of it now, whatever the processes have started themselves included."""
        if self.ended:
            return
        self.ended = True
        if self.outsiders is not None:
            self.outsiders.end()
        for member in self.members:
            if member.process.pid:
                # By itself first: it may be so young that it leads no session yet.
                member.process.kill()
                kill_session(member.process.pid)
        for member in self.members:
            member.process.join()
            member.process.close()


def _as_gone(member: Member) -> Gone:
    role = member.launcher or member.role.name
    return Gone(role, member.number, member.process.exitcode or 0, member.log, time.time())


def _stuck(one: Whereabouts, folder: Path) -> Stuck:
    return Stuck(f"rank {one.rank}", one.pid, folder / f"rank-{one.rank}.log", is_stopped(one.pid))


def _alive(pid: int) -> bool:
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


def kill_session(leader: int) -> None:
    """End every process of a session: its leader's descendants, whatever process groups they made, and nobody else."""
    for _ in range(KILL_ROUNDS):
        members = [pid for pid in psutil.pids() if _lives_in(pid, leader)]
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            return


def _lives_in(pid: int, leader: int) -> bool:
    try:
        return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False
