"""The archives of a training job: our source, for images that have not installed it, and the hosts' output, of which
only the files that nodes leave are unpacked."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

import bench
from bench.node.transfer import is_node_output

MAX_UNPACKED_BYTES = 2**30


class BadArchive(Exception):
    """The archive can't be read, or holds a member that it should not. The text names it."""


def unpack(archive: IO[bytes], folder: Path, most_bytes: int = MAX_UNPACKED_BYTES, *, trial: str | None = None) -> None:
    """Unpack the files that nodes leave, without their folders. Other plain files are skipped: containers may leave
    some of their own.

    Args:
        archive: A tar.gz.
        folder: An existing folder for the files.
        trial: Only the files in a folder of this name; ``None``: all files.
        most_bytes: The largest total size of the members.

    Raises:
        BadArchive: It has absolute paths, ``..``, links, devices, the same name twice, or more than ``most_bytes``.
            Members before the fault have been written.
    """
    bytes_left = most_bytes
    names: set[str] = set()
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as members:
            for member in members:
                # A named pipe is what a rank that was killed with its agent has left.
                if member.isdir() or member.isfifo():
                    continue
                path = _checked_path(member)
                name = path.name
                bytes_left -= member.size
                if bytes_left < 0:
                    raise BadArchive(f"holds more than {most_bytes} bytes")
                if not is_node_output(name) or trial not in (None, path.parent.name):
                    continue
                if name in names:
                    raise BadArchive(f"holds {name!r} twice")
                names.add(name)
                content = members.extractfile(member)
                assert content is not None, "a regular file has content"
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError) as problem:
        raise BadArchive(f"can't be read: {problem}") from None


def _checked_path(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if not member.isreg():
        raise BadArchive(f"holds {member.name!r}, which is not a plain file")
    if path.is_absolute() or ".." in path.parts:
        raise BadArchive(f"holds {member.name!r}, which would be outside the folder")
    return path


RANK_REQUIREMENTS = ("nvidia-ml-py>=13", "psutil>=6", "pydantic>=2.9")
"""What ranks import besides their framework, as in pyproject.toml; pip skips what an image has already."""


def pack_source() -> bytes:
    """The package ``bench`` and a requirements.txt as a tar.gz; the same source gives the same bytes."""
    root = Path(bench.__file__).parent
    files = {f"bench/{path.relative_to(root)}": path.read_bytes() for path in sorted(root.rglob("*.py"))}
    files["requirements.txt"] = ("\n".join(RANK_REQUIREMENTS) + "\n").encode()
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
