"""The one way to write a file that the user named.

An output is a regular file: a new one, an empty one, or one that the harness has written before, which is recognised by
its content. Anything else at its place stays as it is. It is replaced as a whole: a reader, a full disk or an interrupt
never leaves a part of it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.host.paths import from_home
from harness.errors import OutputError

SIGNATURE_BYTES = 2**16
"""Bytes at the beginning and at the end of a file in which its signature is looked for."""
STORE_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""SQLite's files of one database."""
PARTIAL = re.compile(r"\.scaling-harness-[0-9a-f]{16}\.partial")
"""The name of a file that is being written."""
DESCRIPTORS = re.compile(r"/proc/\d+(/task/\d+)?/fd")
MAX_LINKS = 40
"""Symbolic links that Linux follows."""

Identity = tuple[int, int] | tuple[int, int, str] | str


@dataclass(frozen=True)
class OutputFile:
    """A file to write.

    Args:
        option: The option that names it, for messages.
        path: As it was named.
        signature: What its content holds near its beginning or its end in every file of this kind, and in no other.
            ``None``: such files can't be recognised, and are never replaced.
        creates_folder: Whether its folder is created where it is missing.
    """

    option: str
    path: Path
    signature: re.Pattern[bytes] | None
    creates_folder: bool = False

    @property
    def target(self) -> Path:
        """Where it lies: a symbolic link stays, and the file that it leads to is written."""
        return Path(os.path.realpath(self.path))

    def error(self, problem: str) -> OutputError:
        return OutputError(f"{self.option} {self.path}: {problem}")


def named_file(option: str, text: str) -> Path:
    """The file that an option names. Raises :class:`OutputError` where a path would not show that it names none."""
    if text in ("", "-") or text.endswith(("/", "/.", "/..")):
        what = {"": "names nothing", "-": "is no file's name"}.get(text, "names a folder")
        raise OutputError(f"{option} '{text}': {what}; name a file to write")
    return from_home(text)


def check_outputs(outputs: Sequence[OutputFile], store: Path | None) -> None:
    """Check that files can be written, before the work whose results they will hold.

    Args:
        outputs: All outputs of a command.
        store: The file of its results store, which is no output under any name; ``None`` for a server's.

    Raises:
        OutputError: For the first that can't be written, or that is the same file as another or as the store.
    """
    taken: dict[Identity, str] = {}
    if store is not None:
        real = os.path.realpath(store)
        files = (Path(real + suffix) for suffix in STORE_SUFFIXES)
        taken = {identity: "is the results store" for file in files for identity in _identities(file)}
    for output in outputs:
        identities = _identities(output.path)
        if what := next((taken[identity] for identity in identities if identity in taken), None):
            raise output.error(f"{what}; name another file")
        taken |= dict.fromkeys(identities, f"is what {output.option} writes too")
        _check(output)


def write_output(output: OutputFile, content: str | bytes) -> None:
    """Write a file as a whole: its place is checked again, since it may have changed during the work.

    Text is UTF-8; halves of surrogate pairs, which are no characters, are escaped.

    Raises:
        OutputError: If it can't be written. What lay there before is unchanged.
    """
    _check(output)
    try:
        if output.creates_folder:
            output.target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output.target, content.encode(errors="backslashreplace") if isinstance(content, str) else content)
    except OSError as problem:
        raise output.error(f"cannot be written ({problem.strerror}); name another place") from None


def remove_output(output: OutputFile) -> None:
    """Remove an output of an earlier run. Raises :class:`OutputError` for a file of somebody else."""
    _check(output)
    try:
        output.target.unlink(missing_ok=True)
    except OSError as problem:
        raise output.error(f"cannot be removed ({problem.strerror}); name another place") from None


def replace_file(target: Path, content: bytes) -> None:
    """Write a file beside the target, then rename it. The target keeps its mode and its owner, a new one has those
    that the umask gives. Raises :class:`OSError`."""
    partial = target.with_name(f".scaling-harness-{secrets.token_hex(8)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with suppress(FileNotFoundError):
                before = target.stat()
                with suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def holds_signature(file: Path, signature: re.Pattern[bytes]) -> bool:
    """Whether a file holds a signature near its beginning or its end. Raises :class:`OSError`."""
    # A pipe that has taken the file's place is not waited for.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as source:
        beginning = source.read(SIGNATURE_BYTES)
        if signature.search(beginning):
            return True
        source.seek(-min(SIGNATURE_BYTES, source.seek(0, os.SEEK_END)), os.SEEK_END)
        return signature.search(source.read(SIGNATURE_BYTES)) is not None


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to the same file, which need not exist."""
    return bool(_identities(first) & _identities(second))


class FolderHeld(Exception):
    """Another process holds a folder."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Create a folder where it is missing, and hold it against other processes that do the same. The kernel releases it
    with the process.

    Raises:
        OSError: It can't be created.
        FolderHeld: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderHeld from None
        except OSError:  # some network file systems lock no folders
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(option: str, folder: Path) -> Iterator[None]:
    """:func:`folder_lock` for the folder of outputs that an option names.

    Raises:
        OutputError: It can't be created, or another process holds it.
    """
    with ExitStack() as lock:
        try:
            lock.enter_context(folder_lock(folder))
        except OSError as problem:
            message = f"cannot be written ({problem.strerror}); name another folder"
            raise OutputError(f"{option} {folder}: {message}") from None
        except FolderHeld:
            message = "another run is writing to it; wait for its end, or name another folder"
            raise OutputError(f"{option} {folder}: {message}") from None
        yield


def _identities(path: Path) -> frozenset[Identity]:
    """What a file has in common with itself under any other name (two are the same where they share one).

    A hard link has its device and inode; a file that does not exist yet has those of its folder, and its name.
    """
    identities: set[Identity] = set()
    path = Path(os.path.realpath(path))
    with suppress(OSError):
        found = path.stat()
        identities.add((found.st_dev, found.st_ino))
    with suppress(OSError):
        folder = path.parent.stat()
        identities.add((folder.st_dev, folder.st_ino, path.name))
    return frozenset(identities or {str(path)})


def _check(output: OutputFile) -> None:
    """Raise :class:`OutputError` where the file can't be written, or is none of ours."""
    if _is_descriptor(output.path):
        raise output.error("is an open file of this process, and outputs are files of their own; name another file")
    try:
        _check_file(output)
        with tempfile.TemporaryFile(dir=_folder(output)):
            pass
    except OSError as problem:
        raise output.error(f"cannot be written ({problem.strerror}); name another place") from None


def _check_file(output: OutputFile) -> None:
    try:
        found = output.target.stat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise output.error("is a folder; name a file to write")
    if not stat.S_ISREG(found.st_mode):
        raise output.error(f"is {_kind(found.st_mode)}, and outputs are ordinary files; name another file")
    if found.st_size and not (output.signature and holds_signature(output.target, output.signature)):
        raise output.error("holds something that this command has not written; name another file, or remove it")
    if not os.access(output.target, os.W_OK):
        raise output.error("is read-only; make it writable, or name another file")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "no ordinary file")


def _folder(output: OutputFile) -> Path:
    """The folder in which the file, or its folder, will be created. Raises :class:`OutputError`."""
    folder = output.target.parent
    if folder.exists():
        return folder
    if not output.creates_folder:
        raise output.error("its folder does not exist; create it, or name another file")
    return next(parent for parent in folder.parents if parent.exists())


def _is_descriptor(path: Path) -> bool:
    """Whether a path is that of an open file, as ``/dev/stdout`` is: renaming would not reach who has it open."""
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if DESCRIPTORS.fullmatch(folder):
            return True
        try:
            path = Path(folder, path.readlink())
        except OSError:
            return False
    return False
