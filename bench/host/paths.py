"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path


def from_home(name: str | Path) -> Path:
    """A path whose ``~`` or ``~user`` at the beginning is that home folder: a shell leaves ``--out=~/x`` as it is.

    Where there is no such user, or no home folder, it is a name like any other, as ``./~`` always is.
    """
    path = Path(name)
    try:
        # A path forgets that ``./`` was in front of it.
        return path.expanduser() if str(name).startswith("~") else path
    except RuntimeError:
        return path
