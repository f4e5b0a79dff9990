"""Whether a disk is full."""

from __future__ import annotations

import os
from pathlib import Path

FULL_BYTES = 2**20
"""A disk with less free space than this is full."""


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no space, or no room for further files, for this user; ``False`` if unknown."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    # Some file systems count no files: they report 0 of 0.
    return disk.f_bavail * disk.f_frsize < FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
