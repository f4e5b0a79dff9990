"""Reading what processes of a trial left in its folder: regular files of a limited size, and nothing that could block.

A rank may leave anything under the name of a file: a pipe that nobody writes to, a device without an end, a link to
another file. Opening or reading these would take for ever, or read what is no part of the trial.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class UnusableFile(ValueError):
    """No regular file of an acceptable size. The text says what it is, as the end of a sentence."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes, without waiting and without following a link.

    Raises:
        UnusableFile: If it is something else.
        OSError: If it can't be opened.
    """
    if path.is_symlink():
        raise UnusableFile("is a symbolic link")
    # Between the look and the opening the file may be replaced: the flags hold for what is opened.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnusableFile("is no regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        UnusableFile: If it is something else, empty, or larger than ``max_bytes``.
        OSError: If it can't be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise UnusableFile(f"has {size / 2**20:.0f} MiB, more than {max_bytes / 2**20:.0f}")
        content = file.read(max_bytes)
    if not content:
        raise UnusableFile("is empty")
    return content
