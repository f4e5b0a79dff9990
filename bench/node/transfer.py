"""Transfers the files of a trial's folder as lines of text, for nodes that share no disk with the harness.

The lines go through ssh or the log of a pod. Each line holds one file, compressed; nothing in it is executed or
unpickled.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.host.bounded import MAX_LINE_BYTES

LINE_PREFIX = "scaling-transfer "
TRIAL_PREFIX = "scaling-trial "
"""Begins the lines of an agent that runs several trials: the trial's name follows, and what is printed of it."""
MAX_FILE_BYTES = 2**26
"""The largest file that is transferred, uncompressed: as large as the largest record that is read."""
MAX_TOTAL_BYTES = 2**30
"""What is accepted of one node, in all."""
MAX_TRANSFER_LINE_BYTES = 2 * MAX_FILE_BYTES
MAX_STATED_BYTES = 2**50
NODE_OUTPUT = re.compile(
    r"(record|node|flight)-[0-9]+\.json|failure-[A-Za-z0-9_-]+-[0-9]+\.json|progress-[0-9]+"
    r"|telemetry-[A-Za-z0-9._-]+\.jsonl|[A-Za-z0-9][A-Za-z0-9._-]*\.log"
)
MAX_NAME_LENGTH = 200


class TransferError(ValueError):
    """A line that holds no valid file. The text says why."""


def is_node_output(name: str) -> bool:
    """Whether nodes write files of this name (pure).

    They may not write those that the harness keeps in the same folder, such as job handles and ssh configurations.
    """
    return len(name) <= MAX_NAME_LENGTH and NODE_OUTPUT.fullmatch(name) is not None


@contextmanager
def result_folder(out: Path, *, fresh: bool) -> Iterator[Path]:
    """The folder for what the processes leave.

    Args:
        out: Its path.
        fresh: Create it for this trial only, inaccessible to other users, and remove it afterwards.

    Raises:
        OSError: If a fresh folder exists already or can't be created.
    """
    if not fresh:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    out.mkdir(mode=0o700)
    try:
        yield out
    finally:
        shutil.rmtree(out, ignore_errors=True)


def of_trial(name: str, line: str) -> str:
    """A line of output that says which trial it belongs to (pure)."""
    return f"{TRIAL_PREFIX}{name} {line}"


def split_trial(line: str) -> tuple[str, str]:
    """The trial's name and the line of :func:`of_trial`; an empty name where it says none (pure)."""
    if not line.startswith(TRIAL_PREFIX):
        return "", line
    name, _, rest = line.removeprefix(TRIAL_PREFIX).partition(" ")
    return name, rest


def max_line_bytes(beginning: bytes) -> int:
    """How long a line of a node's output may be, by its first bytes (pure)."""
    _, line = split_trial(beginning.decode(errors="replace"))
    return MAX_TRANSFER_LINE_BYTES if line.startswith(LINE_PREFIX) else MAX_LINE_BYTES


def encode_folder(folder: Path, max_file_bytes: int = MAX_FILE_BYTES) -> Iterator[str]:
    """One line for each regular file in ``folder`` that nodes write; other files are left out.

    Of a file that is too large the size is transferred alone: its reader refuses it for that.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and is_node_output(path.name):
            size = path.stat().st_size
            if size > max_file_bytes:
                yield LINE_PREFIX + json.dumps({"file": path.name, "bytes": size})
                continue
            packed = base64.b85encode(zlib.compress(path.read_bytes())).decode()
            yield LINE_PREFIX + json.dumps({"file": path.name, "packed": packed})


def write_archive(folder: Path, archive: Path) -> None:
    """Write a tar.gz of the regular files in ``folder`` that nodes write. It has its name once it is complete."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.partial")
    with tarfile.open(partial, "w:gz") as packed:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink() and is_node_output(path.name):
                packed.add(path, path.name)
    partial.replace(archive)


def remove_other_files(folder: Path) -> None:
    """Remove what ranks left in a trial's folder besides the files that nodes write, to give its space back."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif not is_node_output(path.name) and path.suffix != ".json":
                path.unlink(missing_ok=True)


class TransferReceiver:
    """Writes the files of received lines into ``folder``. Lines are not trusted: names and sizes are checked."""

    def __init__(
        self, folder: Path, max_file_bytes: int = MAX_FILE_BYTES, max_total_bytes: int = MAX_TOTAL_BYTES
    ) -> None:
        self.folder, self.max_file_bytes, self._bytes_left = folder, max_file_bytes, max_total_bytes

    def take(self, line: str) -> bool:
        """Write the file that a line holds; returns whether the line holds one.

        Raises:
            TransferError: If the line is damaged, or holds a file that no node writes.
        """
        if not line.startswith(LINE_PREFIX):
            return False
        try:
            document = json.loads(line.removeprefix(LINE_PREFIX))
            name, packed = document["file"], base64.b85decode(document.get("packed", ""))
            stated_bytes = int(document.get("bytes", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TransferError("a transferred line is incomplete or damaged") from None
        if not isinstance(name, str) or not is_node_output(name):
            raise TransferError(f"a transferred file is named {name!r}, which no node writes")
        if self.max_file_bytes < stated_bytes < MAX_STATED_BYTES:
            self._stand_in(name, stated_bytes)
            return True
        decompressor = zlib.decompressobj()
        try:
            content = decompressor.decompress(packed, self.max_file_bytes)
        except zlib.error:
            raise TransferError(f"transferred file {name} is damaged") from None
        if not decompressor.eof:
            raise TransferError(f"transferred file {name} is larger than {self.max_file_bytes} bytes, or incomplete")
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise TransferError(f"transferred file {name} is one too many: a node leaves less")
        (self.folder / name).write_bytes(content)
        return True

    def _stand_in(self, name: str, stated_bytes: int) -> None:
        """Write a file of that length, of holes, in place of one that is too large to be transferred."""
        with (self.folder / name).open("wb") as file:
            file.truncate(stated_bytes)
