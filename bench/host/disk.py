"""A disk that may become full: whether it is, and space that is held back for what has to be written then."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 2**16
FULL_BYTES = 2**23
"""A disk with less free space than this is full: what one process could not write, another one may have given back."""


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no space, or no room for further files, for this user; ``False`` if unknown."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    # Some file systems count no files: they report 0 of 0.
    return disk.f_bavail * disk.f_frsize < FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


class DiskReserve:
    """A file of :data:`RESERVE_BYTES` that gives its space back when an error has to be reported on a full disk.

    Args:
        path: The file. Where it can't be written there is no reserve.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with suppress(OSError):
            path.write_bytes(bytes(RESERVE_BYTES))

    def release(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
