"""Reading the small files of ``/proc`` again and again, at a fraction of what ``open()`` and text decoding take.

The sampler shares its cores with the ranks: what a tick takes, a rank loses.
"""

from __future__ import annotations

import os
from pathlib import Path

READ_BYTES = 2**16


def read_descriptor(descriptor: int) -> bytes:
    """All that an open file of the kernel says now. It is made anew when it is read from its beginning."""
    pieces, size = [], 0
    while piece := os.pread(descriptor, READ_BYTES, size):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def read_once(path: str) -> bytes:
    """The content of a file that may be gone the next time.

    Raises:
        OSError: If it can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_descriptor(descriptor)
    finally:
        os.close(descriptor)


class KernelFile:
    """A file of the kernel that stays open, for as long as its reader is in use.

    Args:
        path: Opened when it is first read, in the namespaces of this process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self) -> bytes:
        """What it says now.

        Raises:
            OSError: If it can't be opened or read.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return read_descriptor(self._descriptor)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
