"""The temporary files of this process and of the processes that it starts: in folders that outlive none of them.

A process that is killed removes nothing. Its folders are removed by the next start on the machine, which recognises
them by a lock: the kernel releases it with the process, whichever container or process namespace that was in.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from multiprocessing import process, util
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

PREFIX = "scaling-scratch-"
LOCK_FILE = "lock"
LOCK_TEXT = "held by a running scaling-harness; without one, the next start removes this folder\n"
SHARED_MEMORY = Path("/dev/shm")
SHORT_FOLDERS = (Path("/tmp"), Path("/var/tmp"), SHARED_MEMORY)
MAX_PATH_BYTES = 75
"""The longest path of a folder for sockets: their names take 32 bytes more, and the kernel accepts 107."""
AFTER_SOCKETS = -200
"""The priority of the removal when this process ends: that of multiprocessing's folder for sockets is -100."""
SHARED_MEMORY_VARIABLE = "SCALING_SHARED_MEMORY"
"""The variable that names the folder for files in shared memory; not set where there is none."""
SCRATCH_VARIABLE = "SCALING_SCRATCH"
"""The variable that names the folder for temporary files, also to processes whose own temporary folder is in it."""


class ScratchFolder(NamedTuple):
    """A folder of this process, with the file whose lock says that the process runs."""

    path: Path
    lock: IO[str]


_own: list[ScratchFolder] = []  # of this process, while it has any
_adopted: list[ScratchFolder] = []  # of the program that this process ran before


def open_scratch() -> Path:
    """The folder for temporary files of this process and its children, which :mod:`tempfile` uses from now on.

    The first call creates it in the user's temporary folder, and another one in shared memory, and removes those of
    processes that were killed. :mod:`multiprocessing` names its semaphores after the latter, so that they can be told
    from others; its sockets are in a third folder where the path of the first is too long for them.
    """
    if not _own:
        temporary = create_scratch(Path(tempfile.gettempdir()))
        _own.append(temporary)
        util.Finalize(None, close_scratch, exitpriority=AFTER_SOCKETS)
        tempfile.tempdir = os.environ["TMPDIR"] = os.environ[SCRATCH_VARIABLE] = str(temporary.path)
        settings = cast(Any, process.current_process())._config
        if len(os.fsencode(temporary.path)) > MAX_PATH_BYTES:
            with suppress(OSError):
                sockets = create_scratch(next(filter(_is_writable, SHORT_FOLDERS), SHORT_FOLDERS[0]))
                _own.append(sockets)
                settings["tempdir"] = str(sockets.path)
        os.environ.pop(SHARED_MEMORY_VARIABLE, None)
        with suppress(OSError):
            shared = create_scratch(SHARED_MEMORY)
            _own.append(shared)
            os.environ[SHARED_MEMORY_VARIABLE] = str(shared.path)
            settings["semprefix"] = f"/{shared.path.name}"
    return _own[0].path


def close_scratch() -> None:
    """Remove the folders of this process, which can't use temporary files any more. A second call does nothing."""
    while _own or _adopted:
        folder = (_own or _adopted).pop()
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.lock.close()


def adopt_scratch(path: Path, descriptor: int) -> None:
    """Take over a folder of :func:`create_scratch` from the program that this process ran before, by ``exec``.

    Args:
        path: The folder.
        descriptor: The file descriptor of its lock, which was left open.
    """
    os.set_inheritable(descriptor, False)
    _adopted.append(ScratchFolder(path, os.fdopen(descriptor, "w")))
    util.Finalize(None, close_scratch, exitpriority=AFTER_SOCKETS)


def create_scratch(parent: Path) -> ScratchFolder:
    """Create a locked folder in ``parent``, after those of processes that were killed were removed from it.

    Raises:
        OSError: If it can't be created.
    """
    remove_abandoned(parent)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    # It gets its name once it is locked: a lock file that others see is never free while its process runs.
    unlocked = path / f".{LOCK_FILE}"
    lock = unlocked.open("w")
    with suppress(OSError):  # some network file systems have no locks: nobody can take this one either
        fcntl.flock(lock, fcntl.LOCK_EX)
    lock.write(LOCK_TEXT)
    lock.flush()
    unlocked.rename(path / LOCK_FILE)
    return ScratchFolder(path, lock)


def remove_abandoned(parent: Path) -> None:
    """Remove this user's scratch folders in ``parent`` whose process has ended, and the semaphores named after them."""
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(folder: Path) -> None:
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock.read(len(LOCK_TEXT)) != LOCK_TEXT:
            return
        for semaphore in folder.parent.glob(f"sem.{folder.name}-*"):
            semaphore.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)
