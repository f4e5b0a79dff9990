"""A folder of locked files that all users of a machine share: each tells others of a command that runs.

The command holds a lock on its file (``flock(2)``), which the kernel releases with the process, however that ends.
Nobody sees a file before it is locked. What is written in one is shown and never acted upon: any user may write one.

The folder is on the machine, not in a container: containers share one where they mount the same folder and name it by
:data:`FOLDER_VARIABLE`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import ValidationError

from bench.core.frozen_model import FrozenModel
from bench.core.text import one_line
from bench.host.paths import from_home
from bench.host.processes import process_state

FOLDER_VARIABLE = "SCALING_LOCK_FOLDER"
"""The variable that names the folder."""
FOLDER_NAME = "scaling-harness-turns"
"""As former versions call it, whose commands are waited for too."""
MACHINE_FOLDERS = (Path("/run/lock"), Path("/tmp"))
"""Folders that every user of a machine can write to."""
SHARED_MODE = 0o1777
"""Everybody may create files in it, and nobody remove those of others."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_FILE_BYTES = 64 * 2**10
MAX_PURPOSE_LENGTH = 80


class LockUnavailable(Exception):
    """The folder can't be used. The text is one line, with the remedy."""


class Command(FrozenModel):
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
    """Whether it runs beside others, without waiting for them."""


class LockHolder(FrozenModel):
    """Who holds the lock on a file, or has held it."""

    name: str
    """Of the file."""
    user: str
    """The owner of the file."""
    command: Command | None
    """``None``: it can't be read."""
    local: bool = False
    """Whether its process is a process of that user, as seen from here."""
    has_ended: bool = False
    """Whether it has released the lock."""

    @property
    def is_shared(self) -> bool:
        """Whether it runs beside others, as far as is known."""
        return self.command is not None and self.command.shared

    def is_stopped(self) -> bool:
        """Whether its process is stopped by a signal, and will not release the lock by itself."""
        return self.local and self.command is not None and process_state(self.command.pid) == "stopped"

    def is_on(self, cores: Collection[int]) -> bool:
        """Whether it may run on one of these cores; no core means that they are unknown."""
        theirs = self.command.cores if self.command is not None else ()
        return not cores or not theirs or not set(cores).isdisjoint(theirs)

    def __str__(self) -> str:
        if self.command is None:
            return f"a process of user {self.user}"
        # The text was written by anybody.
        purpose = one_line(self.command.purpose, MAX_PURPOSE_LENGTH)
        elsewhere = "ended" if self.has_ended else "in another container"
        where = f"PID {self.command.pid}" if self.local else elsewhere
        return f"{purpose} ({where}, user {self.user})"


class LockedFile:
    """A locked file of this process in a folder, given as a descriptor."""

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
        """Release the lock, and remove the file. A second call does nothing."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._folder)
        self.release()

    def release(self) -> None:
        """Release the lock. The file stays, as that of a process which has ended."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class LockFolder:
    """The folder, open until :meth:`close`; it is made where it is absent.

    Raises:
        LockUnavailable: It can't be used, or a symbolic link leads to it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.descriptor = path, _open_folder(path)

    def close(self) -> None:
        os.close(self.descriptor)

    @property
    def is_removed(self) -> bool:
        """Whether somebody has removed it: who opens it now gets another one."""
        return os.fstat(self.descriptor).st_nlink == 0

    def create(self, name: str, command: Command) -> LockedFile:
        """A locked file of this process.

        Raises:
            LockUnavailable: The folder can't be written any more.
        """
        try:
            return LockedFile(self.descriptor, name, command.model_dump_json())
        except OSError as problem:
            raise LockUnavailable(_problem(self.path, problem)) from None

    def open(self, name: str) -> int:
        """A descriptor of a file, to be closed; never of one that a symbolic link leads to."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.descriptor)

    def names(self, pattern: re.Pattern[str]) -> list[str]:
        with os.scandir(self.descriptor) as entries:
            return [entry.name for entry in entries if pattern.fullmatch(entry.name)]

    def holders(self, pattern: re.Pattern[str]) -> Iterator[LockHolder]:
        """Who has the files with such names. Those of processes that have ended are among them."""
        for name in self.names(pattern):
            with suppress(OSError):
                descriptor = self.open(name)
                try:
                    yield _read_holder(name, descriptor)
                finally:
                    os.close(descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, where that is allowed: not those of others in a sticky folder."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)


def lock_folder() -> Path:
    """The folder that :data:`FOLDER_VARIABLE` names, else the machine's: one that all users can write to."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return from_home(named)
    for place in MACHINE_FOLDERS:
        with suppress(OSError):
            found = place.stat()
            # As root made it, and on no read-only file system: what each user sees of it is the same.
            if stat.S_IMODE(found.st_mode) == SHARED_MODE and found.st_uid == 0 and os.access(place, os.W_OK):
                return place / FOLDER_NAME
    return MACHINE_FOLDERS[-1] / FOLDER_NAME


def pid_namespace() -> int | None:
    """The namespace that the PIDs of this process count in; ``None``: the system has none."""
    with suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino
    return None


def user_name(uid: int) -> str:
    try:
        return one_line(pwd.getpwuid(uid).pw_name, MAX_PURPOSE_LENGTH)
    except KeyError:
        return str(uid)


def _open_folder(path: Path) -> int:
    if not path.is_absolute():
        text = f"folder {path} can't be used (commands that start elsewhere would mean another one)"
        raise LockUnavailable(f"{text}; name it by its whole path in {FOLDER_VARIABLE}")
    try:
        with suppress(FileExistsError):
            path.mkdir()
            path.chmod(SHARED_MODE)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        # Opened, not looked up again: it stays the same folder.
        if not os.access(path, os.W_OK):
            os.close(descriptor)
            raise PermissionError(0, f"it is {user_name(path.stat().st_uid)}'s, and not writable")
    except OSError as problem:
        raise LockUnavailable(_problem(path, problem)) from None
    return descriptor


def _problem(folder: Path, problem: OSError) -> str:
    reason = problem.strerror or str(problem)
    remedy = "free some space there" if problem.errno in DISK_FULL else "remove it"
    return f"folder {folder} can't be used ({reason}); {remedy}, or name another one by {FOLDER_VARIABLE}"


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read_holder(name: str, descriptor: int) -> LockHolder:
    found = os.fstat(descriptor)
    has_ended = not _is_locked(descriptor)
    holder = LockHolder(name=name, user=user_name(found.st_uid), command=None, has_ended=has_ended)
    if not stat.S_ISREG(found.st_mode):
        return holder
    try:
        command = Command.model_validate_json(os.pread(descriptor, MAX_FILE_BYTES, 0))
    except (OSError, ValidationError):
        return holder
    local = not has_ended and _is_process_of(command, found.st_uid)
    return holder.model_copy(update={"command": command, "local": local})


def _is_process_of(command: Command, uid: int) -> bool:
    with suppress(psutil.Error, ValueError, OverflowError):
        return command.pid_namespace == pid_namespace() and psutil.Process(command.pid).uids().effective == uid
    return False
