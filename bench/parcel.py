"""The files of a trial's folder as lines of text, for nodes that share no disk with the harness: through ssh, through
a pod's log. A line is one whole file; nothing in it is ever executed."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

MARK = "scaling-parcel "
LARGEST_BYTES = 2**28
LEFT = re.compile(
    r"(record|node)-[0-9]+\.json|failure-[A-Za-z0-9_-]+-[0-9]+\.json|progress-[0-9]+"
    r"|telemetry-[A-Za-z0-9._-]+\.jsonl|[A-Za-z0-9][A-Za-z0-9._-]*\.log"
)
LONGEST_NAME = 200


class BadParcel(ValueError):
    """A line that is no file of a parcel."""


def is_left_by_a_node(name: str) -> bool:
    """Whether a file of this name is a node's to leave (pure). What the harness keeps beside them, such as claims and
    configurations of ssh, is nobody else's to write."""
    return len(name) <= LONGEST_NAME and LEFT.fullmatch(name) is not None


def lines_of(folder: Path) -> Iterator[str]:
    """Every plain file that a node leaves in ``folder``, a line each; all else stays behind."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and is_left_by_a_node(path.name):
            packed = base64.b85encode(zlib.compress(path.read_bytes())).decode()
            yield MARK + json.dumps({"file": path.name, "packed": packed})


class Unpacker:
    """Puts the files of parcels into ``folder``. What other nodes or a stranger may have sent is checked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, line: str) -> bool:
        """Whether the line was a file of a parcel, which then lies in the folder. Raises :class:`BadParcel`."""
        if not line.startswith(MARK):
            return False
        try:
            found = json.loads(line.removeprefix(MARK))
            name, packed = found["file"], base64.b85decode(found["packed"])
        except (ValueError, KeyError, TypeError):
            raise BadParcel("a line of a parcel is cut off or damaged") from None
        if not isinstance(name, str) or not is_left_by_a_node(name):
            raise BadParcel(f"a parcel holds a file with the name {name!r}, which no node leaves")
        unpacking = zlib.decompressobj()
        try:
            content = unpacking.decompress(packed, LARGEST_BYTES)
        except zlib.error:
            raise BadParcel(f"{name} in a parcel is damaged") from None
        if not unpacking.eof:
            raise BadParcel(f"{name} in a parcel is larger than {LARGEST_BYTES} bytes, or cut off")
        (self.folder / name).write_bytes(content)
        return True
