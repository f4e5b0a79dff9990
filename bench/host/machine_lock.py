"""A lock for the cores of this machine: of the commands that measure on the same cores, one at a time runs a trial.

It is granted in the order in which it is asked for. Who asks gets a file in a folder that all users of the machine
share (:mod:`bench.host.lock_folder`), whose number is the place in the queue, and waits for the locks on the files of
those before. Nobody waits for a process that has ended. A waiting process sleeps in the kernel, and takes nothing from
the one that measures.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from bench.host.lock_folder import Command, LockedFile, LockFolder, LockHolder, lock_folder, pid_namespace

QUEUED = re.compile(r"turn-(\d{1,18})-[0-9a-f]{16}")
"""The file of a command that has the lock or waits for it."""
RUNNING = re.compile(r"command-[0-9a-f]{16}")
"""The file of a command that runs, whether it has the lock or not."""
LOOK_EVERY_S = 1.0
"""Between two looks at the process that is waited for."""
NUMBERING_PAUSE_S, LOOKS_BETWEEN_REPORTS = 0.01, 100

Report = Callable[[LockHolder, int], None]
"""Called about once a second while a command waits, with who is waited for and how many come in between. It may raise:
the command leaves the queue then."""


class HeldLock:
    """The lock, which this process has until :meth:`release`."""

    def __init__(self, file: LockedFile) -> None:
        self._file = file

    def release(self) -> None:
        """Let the next one go. A second call does nothing."""
        self._file.remove()


class MachineLock:
    """The lock of this machine, as one command uses it; a context manager.

    While it is open, others know of the command (:meth:`others`).

    Args:
        purpose: What the command does, for those who wait for it.
        cores: The cores that it may run on: commands without a common core do not wait for each other. Empty: all.
        shared: Whether it never takes the lock, and others do not wait for it.
        folder: The folder of locked files; ``None``: that of the machine.

    Raises:
        LockUnavailable: That folder can't be used.
    """

    def __init__(
        self, purpose: str, cores: Collection[int], *, shared: bool = False, folder: Path | None = None
    ) -> None:
        self.purpose, self.cores, self.shared = purpose, tuple(sorted(cores)), shared
        self._folder = LockFolder(folder or lock_folder())
        self._running: LockedFile | None = None

    def __enter__(self) -> MachineLock:
        self._register()
        return self

    def _register(self) -> None:
        self._running = self._folder.create(f"command-{secrets.token_hex(8)}", self._command())

    def __exit__(self, *problem: object) -> None:
        if self._running is not None:
            if any(self.disturbs(other) for other in self.others()):
                # Who measures at this moment sees at the end of its trial that this command was there.
                self._running.release()
            else:
                self._running.remove()
        self._folder.close()

    def disturbs(self, other: LockHolder) -> bool:
        """Whether this command and another one may measure at the same time: one of them shares the machine."""
        return self.shared or other.is_shared

    def others(self) -> list[LockHolder]:
        """The other commands that are open on these cores, whether they have the lock or not."""
        return [holder for holder in self.look() if not holder.has_ended]

    def look(self) -> list[LockHolder]:
        """The other commands on these cores, and those that have ended beside one which may have to know of it."""
        own = self._running.name if self._running is not None else ""
        commands = [holder for holder in self._folder.holders(RUNNING) if holder.name != own]
        still_open = [holder for holder in commands if not holder.has_ended]
        one_shares = any(holder.is_shared for holder in still_open)
        for holder in commands:
            if holder.has_ended and not (still_open and (holder.is_shared or one_shares)):
                self._folder.remove(holder.name)
        return [holder for holder in commands if holder.is_on(self.cores)]

    def acquire(self, report: Report = lambda holder, more: None) -> HeldLock:
        """Wait for those that asked before.

        Args:
            report: Is told about once a second who is waited for.

        Raises:
            LockUnavailable: The folder can't be written any more.
        """
        own, ahead = self._enter_queue(report)
        try:
            for number, holder in enumerate(ahead):
                with suppress(FileNotFoundError):
                    descriptor = self._folder.open(holder.name)
                    # Those behind it may end before it does.
                    _wait_for_release(descriptor, partial(report, holder, len(ahead) - number - 1))
        except BaseException:
            own.remove()
            raise
        return HeldLock(own)

    def acquire_if_free(self) -> HeldLock | None:
        """The lock, where nobody else holds it or waits for it.

        Raises:
            LockUnavailable: The folder can't be written any more.
        """

        def give_up(holder: LockHolder, more: int) -> None:
            raise BlockingIOError

        try:
            own, ahead = self._enter_queue(give_up)
        except BlockingIOError:
            return None
        if ahead:
            own.remove()
            return None
        return HeldLock(own)

    def _enter_queue(self, report: Report) -> tuple[LockedFile, list[LockHolder]]:
        """The file of this command in the queue, and those that asked before."""
        if self._folder.is_removed:
            # A cleaner of temporary folders, or a user; commands that have begun since meet in a new one.
            anew = LockFolder(self._folder.path)
            self.__exit__()
            self._folder = anew
            self._register()
        with self._numbering(report):
            before = list(self._queue())
            own = self._folder.create(f"turn-{self._next_number():d}-{secrets.token_hex(8)}", self._command())
        try:
            # A trial that starts this command is not over before it has ended.
            ancestors = _ancestors()
            return own, [
                holder
                for holder in sorted(before, key=_place)
                if holder.is_on(self.cores)
                and not (holder.local and holder.command is not None and holder.command.pid in ancestors)
            ]
        except BaseException:
            own.remove()
            raise

    def _queue(self) -> Iterator[LockHolder]:
        for holder in self._folder.holders(QUEUED):
            if holder.has_ended:
                self._folder.remove(holder.name)
            else:
                yield holder

    @contextmanager
    def _numbering(self, report: Report) -> Iterator[None]:
        """Nobody else gets a number inside. Who holds it longer than an instant is stopped, or means to."""
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._folder.descriptor)
        try:
            for attempt in itertools.count(1):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(NUMBERING_PAUSE_S)
                    if attempt % LOOKS_BETWEEN_REPORTS == 0:
                        report(LockHolder(name="", user="?", command=None), 0)
            yield
        finally:
            os.close(descriptor)

    def _next_number(self) -> int:
        return max((_number(name) for name in self._folder.names(QUEUED)), default=0) + 1

    def _command(self) -> Command:
        return Command(
            pid=os.getpid(),
            pid_namespace=pid_namespace(),
            purpose=self.purpose,
            began_s=time.time(),
            cores=self.cores,
            shared=self.shared,
        )


def _place(holder: LockHolder) -> int:
    return _number(holder.name)


def _number(name: str) -> int:
    """The place in the queue, by the name of a file; 0 where it stands in none."""
    found = QUEUED.fullmatch(name)
    return int(found.group(1)) if found else 0


def _ancestors() -> set[int]:
    """The processes that this one descends from; fewer where one of them ends meanwhile."""
    with suppress(psutil.Error):
        return {process.pid for process in psutil.Process().parents()}
    return {os.getppid()}


def _wait_for_release(descriptor: int, report: Callable[[], None]) -> None:
    """Wait until a file is not locked any more.

    Args:
        descriptor: Of the file. It is closed, also where this is interrupted.
        report: Called at the beginning, and every :data:`LOOK_EVERY_S` seconds.
    """
    released = threading.Event()

    def block() -> None:
        # In a thread: not every interrupt ends a wait in the kernel. It uses nothing but the descriptor, since it goes
        # on where the wait was interrupted.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        finally:
            released.set()
            os.close(descriptor)

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(descriptor)
        return
    except BlockingIOError:
        threading.Thread(target=block, name="wait-for-machine-lock", daemon=True).start()
    report()
    while not released.wait(LOOK_EVERY_S):
        report()
