"""Archives that come from elsewhere: what nodes leave is taken out of them, and nothing else."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from bench.parcel import is_node_output

MAX_UNPACKED_BYTES = 2**30


class BadArchive(Exception):
    """It can't be read, or holds what has no business in it; says what."""


def unpack(archive: IO[bytes], folder: Path, most_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Put what nodes have left, of a tar.gz, into an existing folder, whatever folders it was in. Other plain files
    are passed over: containers may leave some of their own.

    Raises :class:`BadArchive` for absolute paths, ``..``, links and devices, names that clash, and more than
    ``most_bytes`` in all; then nothing is written that was not checked.
    """
    bytes_left = most_bytes
    names: set[str] = set()
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as members:
            for member in members:
                if member.isdir():
                    continue
                name = _checked_name(member, names)
                bytes_left -= member.size
                if bytes_left < 0:
                    raise BadArchive(f"holds more than {most_bytes} bytes")
                if not is_node_output(name):
                    continue
                names.add(name)
                content = members.extractfile(member)
                assert content is not None, "a regular file has content"
                (folder / name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as problem:
        raise BadArchive(f"can't be read: {problem}") from None


def _checked_name(member: tarfile.TarInfo, names: set[str]) -> str:
    path = PurePosixPath(member.name)
    if not member.isreg():
        raise BadArchive(f"holds {member.name!r}, which is not a plain file")
    if path.is_absolute() or ".." in path.parts:
        raise BadArchive(f"holds {member.name!r}, which would lie outside")
    if path.name in names:
        raise BadArchive(f"holds {path.name!r} twice")
    return path.name
