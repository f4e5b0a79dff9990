"""Who can change a file that is executed here."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


def changeable_by_others(path: Path) -> str | None:
    """By what other users than this one and root can change a file, or put another one in its place.

    Groups are not looked at: on many systems each user has a group of its own, to which files are writable.

    Args:
        path: A file or a folder; what it links to counts.

    Returns:
        The file, or the folder above it, with the reason: ``/srv/plugins (mode 0777)``; ``None`` where nobody can, or
        where that can't be read.
    """
    with suppress(OSError):
        resolved = path.resolve()
        for place in (resolved, *resolved.parents):
            status = place.stat()
            mode = stat.S_IMODE(status.st_mode)
            # In a folder with the sticky bit, such as /tmp, everybody changes only what is his own.
            protected = place != resolved and mode & stat.S_ISVTX
            if mode & stat.S_IWOTH and not protected:
                return f"{place} (mode {mode:04o})"
            if status.st_uid not in (0, os.geteuid()):
                return f"{place} (owner {_user_name(status.st_uid)})"
    return None


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
