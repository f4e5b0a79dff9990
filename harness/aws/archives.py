"""Archives that come from elsewhere: plain files are taken out of them, anything else is refused."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

MOST_BYTES = 2**30
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class BadArchive(Exception):
    """It can't be read, or holds what has no business in it; says what."""


def unpack(archive: IO[bytes], folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Put the files of a tar.gz into an existing folder, whatever folders they were in.

    Raises :class:`BadArchive` for absolute paths, ``..``, odd names, links and devices, names that clash, and more than
    ``most_bytes`` in all; then nothing is written that was not checked.
    """
    left = most_bytes
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as members:
            for member in members:
                if member.isdir():
                    continue
                name = _checked_name(member, seen)
                left -= member.size
                if left < 0:
                    raise BadArchive(f"holds more than {most_bytes} bytes")
                seen.add(name)
                content = members.extractfile(member)
                assert content is not None, "a regular file has content"
                (folder / name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as problem:
        raise BadArchive(f"can't be read: {problem}") from None


def _checked_name(member: tarfile.TarInfo, seen: set[str]) -> str:
    place = PurePosixPath(member.name)
    if not member.isreg():
        raise BadArchive(f"holds {member.name!r}, which is not a plain file")
    if place.is_absolute() or ".." in place.parts:
        raise BadArchive(f"holds {member.name!r}, which would lie outside")
    if not SAFE_NAME.fullmatch(place.name):
        raise BadArchive(f"holds {member.name!r}, an odd name")
    if place.name in seen:
        raise BadArchive(f"holds {place.name!r} twice")
    return place.name
