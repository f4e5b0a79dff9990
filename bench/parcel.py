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
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


class BadParcel(ValueError):
    """A line that is no file of a parcel."""


def lines_of(folder: Path) -> Iterator[str]:
    """Every plain file in ``folder``, a line each; folders in it stay behind."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and NAME.fullmatch(path.name):
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
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise BadParcel(f"a parcel holds a file with the name {name!r}")
        unpacking = zlib.decompressobj()
        try:
            content = unpacking.decompress(packed, LARGEST_BYTES)
        except zlib.error:
            raise BadParcel(f"{name} in a parcel is damaged") from None
        if not unpacking.eof:
            raise BadParcel(f"{name} in a parcel is larger than {LARGEST_BYTES} bytes, or cut off")
        (self.folder / name).write_bytes(content)
        return True
