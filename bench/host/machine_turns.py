"""Turns for the cores of this machine: of the commands that measure on the same cores, one at a time runs a trial.

Each turn is a file, a ticket, in a folder that all users of the machine share. Its number is its place in the queue,
and its owner holds a lock on it (``flock(2)``): whoever comes later waits for the locks of those before. The kernel
releases a lock with the process that holds it, so that nobody waits for a process that has ended, however it ended. A
waiting process sleeps in the kernel, and takes nothing from the one that measures.

The folder is on the machine, not in a container: containers share one where they mount the same folder and name it by
:data:`FOLDER_VARIABLE`. What is written in a ticket is shown and never acted upon: any user may write one.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import pwd
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
from pydantic import ValidationError

from bench.core.frozen_model import FrozenModel
from bench.core.text import one_line
from bench.host.paths import from_home
from bench.host.processes import process_state

FOLDER_VARIABLE = "SCALING_TURNS"
"""The variable that names the folder of turns."""
FOLDER_NAME = "scaling-harness-turns"
MACHINE_FOLDERS = (Path("/run/lock"), Path("/tmp"))
"""Folders that every user of a machine can write to."""
SHARED_MODE = 0o1777
"""Everybody may create files in it, and nobody remove those of others."""
TICKET = re.compile(r"turn-(\d{1,18})-[0-9a-f]{16}")
PRESENCE = re.compile(r"command-[0-9a-f]{16}")
MAX_TICKET_BYTES = 64 * 2**10
MAX_PURPOSE_LENGTH = 80
LOOK_EVERY_S = 1.0
"""Between two looks at the process that is waited for."""
NUMBERING_PAUSE_S, LOOKS_BETWEEN_REPORTS = 0.01, 100


class TurnsUnavailable(Exception):
    """Turns can't be taken on this machine. The text is one line, with the remedy."""


class Ticket(FrozenModel):
    """What a command says of itself."""

    pid: int
    pid_namespace: int | None
    """Which processes its number counts among; ``None``: the system has no such namespaces."""
    purpose: str
    """What it does, such as ``sweep 20261128-011500-ab12``."""
    began_s: float
    """In seconds since the Unix epoch."""
    cores: tuple[int, ...]
    """Those that it may run on; empty where the system does not say: all."""
    shared: bool = False
    """Whether it takes no turns."""


class Holder(FrozenModel):
    """Who has a ticket."""

    name: str
    """Of its file."""
    user: str
    """The owner of its file."""
    ticket: Ticket | None
    """``None``: it can't be read."""
    local: bool = False
    """Whether its process is a process of that user, as seen from here."""

    @property
    def number(self) -> int:
        """Its place in the queue; 0 where it stands in none."""
        found = TICKET.fullmatch(self.name)
        return int(found.group(1)) if found else 0

    def is_stopped(self) -> bool:
        """Whether its process is stopped by a signal, and will not end its turn by itself."""
        return self.local and self.ticket is not None and process_state(self.ticket.pid) == "stopped"

    def is_on(self, cores: Collection[int]) -> bool:
        """Whether it may run on one of these cores; no core means that they are unknown."""
        theirs = self.ticket.cores if self.ticket is not None else ()
        return not cores or not theirs or not set(cores).isdisjoint(theirs)

    def __str__(self) -> str:
        if self.ticket is None:
            return f"a process of user {self.user}"
        # The text was written by anybody.
        purpose = one_line(self.ticket.purpose, MAX_PURPOSE_LENGTH)
        where = f"PID {self.ticket.pid}" if self.local else "in another container"
        return f"{purpose} ({where}, user {self.user})"


class Turn:
    """A turn that this process has, until :meth:`end`."""

    def __init__(self, file: _OwnFile) -> None:
        self._file = file

    def end(self) -> None:
        """Let the next one go. A second call does nothing."""
        self._file.remove()


class MachineTurns:
    """The turns of one command on this machine; a context manager.

    While it is open, others know of the command (:meth:`others`).

    Args:
        purpose: What the command does, for those who wait for it.
        cores: The cores that it may run on: commands without a common core do not wait for each other. Empty: all.
        shared: Whether it takes no turns, and others do not wait for it.
        folder: The folder of turns; ``None``: that of the machine.

    Raises:
        TurnsUnavailable: That folder can't be used.
    """

    def __init__(
        self, purpose: str, cores: Collection[int], *, shared: bool = False, folder: Path | None = None
    ) -> None:
        self.purpose, self.cores, self.shared = purpose, tuple(sorted(cores)), shared
        self.folder = folder or turn_folder()
        self._descriptor = _open_folder(self.folder)
        self._presence: _OwnFile | None = None

    def __enter__(self) -> MachineTurns:
        self._presence = self._create(f"command-{secrets.token_hex(8)}")
        return self

    def __exit__(self, *problem: object) -> None:
        if self._presence is not None:
            self._presence.remove()
        os.close(self._descriptor)

    def others(self) -> list[Holder]:
        """The other commands that are open on these cores, whether they have a turn or not."""
        own = self._presence.name if self._presence is not None else ""
        return [holder for holder in self._holders(PRESENCE) if holder.name != own and holder.is_on(self.cores)]

    def take(self, report: Callable[[Holder, int], None] = lambda holder, more: None) -> Turn:
        """Wait for the turns that were asked for before.

        Args:
            report: Called about once a second while it waits, with who is waited for and how many come in between. It
                may raise: the turn is given up then.

        Raises:
            TurnsUnavailable: The folder can't be written any more.
        """
        with self._numbering(report):
            before = list(self._holders(TICKET))
            own = self._create(f"turn-{self._next_number():d}-{secrets.token_hex(8)}")
        try:
            # A trial that starts this command is not over before it has ended.
            ancestors = _ancestors()
            ahead = [
                holder
                for holder in sorted(before, key=lambda holder: holder.number)
                if holder.is_on(self.cores)
                and not (holder.local and holder.ticket is not None and holder.ticket.pid in ancestors)
            ]
            for place, holder in enumerate(ahead):
                with suppress(FileNotFoundError):
                    descriptor = self._open(holder.name)
                    # Those behind it may end before it does.
                    _wait_for_end(descriptor, partial(report, holder, len(ahead) - place - 1))
        except BaseException:
            own.remove()
            raise
        return Turn(own)

    @contextmanager
    def _numbering(self, report: Callable[[Holder, int], None]) -> Iterator[None]:
        """Nobody else gets a number inside. Who holds it longer than an instant is stopped, or means to."""
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
        try:
            for attempt in itertools.count(1):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(NUMBERING_PAUSE_S)
                    if attempt % LOOKS_BETWEEN_REPORTS == 0:
                        report(Holder(name="", user="?", ticket=None), 0)
            yield
        finally:
            os.close(descriptor)

    def _next_number(self) -> int:
        return max((int(found.group(1)) for name in self._names() if (found := TICKET.fullmatch(name))), default=0) + 1

    def _names(self) -> list[str]:
        with os.scandir(self._descriptor) as entries:
            return [entry.name for entry in entries]

    def _holders(self, pattern: re.Pattern[str]) -> Iterator[Holder]:
        """Those whose file has such a name and is locked. Files of processes that have ended are removed."""
        for name in self._names():
            if not pattern.fullmatch(name):
                continue
            with suppress(OSError):
                descriptor = self._open(name)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield _read_holder(name, descriptor)
                else:
                    # Not those of others in a sticky folder.
                    os.unlink(name, dir_fd=self._descriptor)
                finally:
                    os.close(descriptor)

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._descriptor)

    def _create(self, name: str) -> _OwnFile:
        ticket = Ticket(
            pid=os.getpid(),
            pid_namespace=_pid_namespace(),
            purpose=self.purpose,
            began_s=time.time(),
            cores=self.cores,
            shared=self.shared,
        )
        try:
            return _OwnFile(self._descriptor, name, ticket.model_dump_json())
        except OSError as problem:
            raise TurnsUnavailable(_problem(self.folder, problem.strerror or str(problem))) from None


class _OwnFile:
    """A locked file of this process in a folder, given as a descriptor. Nobody sees it before it is locked."""

    def __init__(self, folder: int, name: str, text: str) -> None:
        self.name, self._folder = name, folder
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        hidden = f".{name}"
        self._descriptor: int | None = os.open(hidden, flags, 0o644, dir_fd=folder)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, text.encode())
            os.fchmod(self._descriptor, 0o644)  # whatever the umask says: others wait for its lock
            os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(hidden, dir_fd=folder)
            os.close(self._descriptor)
            raise

    def remove(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._folder)
            os.close(descriptor)


def turn_folder() -> Path:
    """The folder of turns: the one that :data:`FOLDER_VARIABLE` names, else a folder that all users can write to."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return from_home(named)
    for place in MACHINE_FOLDERS:
        with suppress(OSError):
            found = place.stat()
            # As root made it, and on no read-only file system: what each user sees of it is the same.
            if stat.S_IMODE(found.st_mode) == SHARED_MODE and found.st_uid == 0 and os.access(place, os.W_OK):
                return place / FOLDER_NAME
    return MACHINE_FOLDERS[-1] / FOLDER_NAME


def _open_folder(folder: Path) -> int:
    """A descriptor of the folder, which is made where it is absent; never one that a symbolic link leads to."""
    try:
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(SHARED_MODE)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        # Opened, not looked up again: it stays the same folder.
        if not os.access(folder, os.W_OK):
            os.close(descriptor)
            raise PermissionError(0, f"it is {_user_name(folder.stat().st_uid)}'s, and not writable")
    except OSError as problem:
        raise TurnsUnavailable(_problem(folder, problem.strerror or str(problem))) from None
    return descriptor


def _problem(folder: Path, reason: str) -> str:
    return f"folder {folder} can't be used ({reason}); remove it, or name another one by {FOLDER_VARIABLE}"


def _read_holder(name: str, descriptor: int) -> Holder:
    """Who has a ticket, by a descriptor of its file."""
    found = os.fstat(descriptor)
    user = _user_name(found.st_uid)
    if not stat.S_ISREG(found.st_mode):
        return Holder(name=name, user=user, ticket=None)
    try:
        ticket = Ticket.model_validate_json(os.pread(descriptor, MAX_TICKET_BYTES, 0))
    except (OSError, ValidationError):
        return Holder(name=name, user=user, ticket=None)
    return Holder(name=name, user=user, ticket=ticket, local=_is_process_of(ticket, found.st_uid))


def _is_process_of(ticket: Ticket, uid: int) -> bool:
    with suppress(psutil.Error, ValueError, OverflowError):
        return ticket.pid_namespace == _pid_namespace() and psutil.Process(ticket.pid).uids().effective == uid
    return False


def _ancestors() -> set[int]:
    """The processes that this one descends from; fewer where one of them ends meanwhile."""
    with suppress(psutil.Error):
        return {process.pid for process in psutil.Process().parents()}
    return {os.getppid()}


def _pid_namespace() -> int | None:
    with suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino
    return None


def _user_name(uid: int) -> str:
    try:
        return one_line(pwd.getpwuid(uid).pw_name, MAX_PURPOSE_LENGTH)
    except KeyError:
        return str(uid)


def _wait_for_end(descriptor: int, report: Callable[[], None]) -> None:
    """Wait until a ticket is not locked any more.

    Args:
        descriptor: Of its file. It is closed, also where this is interrupted.
        report: Called at the beginning, and every :data:`LOOK_EVERY_S` seconds.
    """
    ended = threading.Event()

    def block() -> None:
        # In a thread: not every interrupt ends a wait in the kernel. It uses nothing but the descriptor, since it goes
        # on where the wait was interrupted.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        finally:
            ended.set()
            os.close(descriptor)

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(descriptor)
        return
    except BlockingIOError:
        threading.Thread(target=block, name="wait-for-turn", daemon=True).start()
    report()
    while not ended.wait(LOOK_EVERY_S):
        report()
