"""The files of a trial's folder as lines of text, for nodes that share no disk with the harness: through ssh, through
a pod's log. A line is one whole file; nothing in it is ever executed."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LINE_PREFIX = "scaling-parcel "
MAX_FILE_BYTES = 2**28
NODE_OUTPUT = re.compile(
    r"(record|node)-[0-9]+\.json|failure-[A-Za-z0-9_-]+-[0-9]+\.json|progress-[0-9]+"
    r"|telemetry-[A-Za-z0-9._-]+\.jsonl|[A-Za-z0-9][A-Za-z0-9._-]*\.log"
)
MAX_NAME_LENGTH = 200


class TransferError(ValueError):
    """A line that is no file of a parcel."""


def is_node_output(name: str) -> bool:
    """Whether a file of this name is a node's to leave (pure). What the harness keeps beside them, such as claims and
    configurations of ssh, is nobody else's to write."""
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


def encode_folder(folder: Path) -> Iterator[str]:
    """Every plain file that a node leaves in ``folder``, a line each; all else stays behind."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and is_node_output(path.name):
            packed = base64.b85encode(zlib.compress(path.read_bytes())).decode()
            yield LINE_PREFIX + json.dumps({"file": path.name, "packed": packed})


class TransferReceiver:
    """Puts the files of parcels into ``folder``. What other nodes or a stranger may have sent is checked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, line: str) -> bool:
        """Whether the line was a file of a parcel, which then lies in the folder. Raises :class:`TransferError`."""
        if not line.startswith(LINE_PREFIX):
            return False
        try:
            document = json.loads(line.removeprefix(LINE_PREFIX))
            name, packed = document["file"], base64.b85decode(document["packed"])
        except (ValueError, KeyError, TypeError):
            raise TransferError("a line of a parcel is cut off or damaged") from None
        if not isinstance(name, str) or not is_node_output(name):
            raise TransferError(f"a parcel holds a file with the name {name!r}, which no node leaves")
        decompressor = zlib.decompressobj()
        try:
            content = decompressor.decompress(packed, MAX_FILE_BYTES)
        except zlib.error:
            raise TransferError(f"{name} in a parcel is damaged") from None
        if not decompressor.eof:
            raise TransferError(f"{name} in a parcel is larger than {MAX_FILE_BYTES} bytes, or cut off")
        (self.folder / name).write_bytes(content)
        return True
