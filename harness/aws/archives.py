"""Archives that come from elsewhere: what nodes leave is taken out of them, and nothing else."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from bench.parcel import is_left_by_a_node

MOST_BYTES = 2**30


class BadArchive(Exception):
    """It can't be read, or holds what has no business in it; says what."""


def unpack(archive: IO[bytes], folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Put what nodes have left, of a tar.gz, into an existing folder, whatever folders it was in. Other plain files
    are passed over: containers may leave some of their own.

    Raises :class:`BadArchive` for absolute paths, ``..``, links and devices, names that clash, and more than
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
                if not is_left_by_a_node(name):
                    continue
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
    if place.name in seen:
        raise BadArchive(f"holds {place.name!r} twice")
    return place.name
