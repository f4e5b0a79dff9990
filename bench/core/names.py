"""Names that become files: the pattern of every id, and the only way from a name to a path.

Ids come from stores that others wrote, from plugins and from other processes. A field that holds one has the type
:data:`Name`, so that another text is refused where it enters.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from bench.core.text import one_line

MAX_NAME_LENGTH = 100
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
MAX_FILE_NAME_BYTES = 255
"""Of one part of a path, on all common file systems."""
DIGEST_LENGTH = 16
SHOWN_LENGTH = 40


class UnsafeName(ValueError):
    """A name that can't be that of a file in its folder. The text is one line that quotes it."""


def check_name(name: str) -> str:
    """The name itself. Raises :class:`UnsafeName` where it doesn't have the form of one."""
    if len(name) > MAX_NAME_LENGTH or not NAME.fullmatch(name):
        raise UnsafeName(
            f"'{one_line(name, SHOWN_LENGTH)}' is no name: it has 1 to {MAX_NAME_LENGTH} of the characters A-Z, a-z, "
            "0-9, '.', '_' and '-', begins with a letter or a digit, and does not end with a dot"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""The id of a sweep, a role or a plugin."""


def file_stem(*names: str, reserved: Collection[str] = ()) -> str:
    """The name of a file for one id, or for several together: different ones never share a file (pure).

    Capital letters are the same as small ones on some file systems. Names with them, long ones, and names of another
    form than :data:`Name` get a digest, after a character that no :data:`Name` has.

    Args:
        names: The ids.
        reserved: Files of other kinds in the same folder, without suffix.
    """
    joined = "+".join(names)
    plain = all(NAME.fullmatch(name) and name == name.lower() for name in names)
    if plain and len(joined) <= 2 * MAX_NAME_LENGTH and joined not in reserved:
        return joined
    digest = hashlib.sha256("\0".join(names).encode(errors="surrogatepass")).hexdigest()[:DIGEST_LENGTH]
    return f"{re.sub('[^a-z0-9_-]+', '-', joined.lower())[:MAX_NAME_LENGTH].strip('-')}~{digest}"


def path_inside(folder: Path, *parts: str) -> Path:
    """A path below a folder, absolute.

    Args:
        folder: It may be a symbolic link itself.
        parts: Each the name of a file or folder; it needs not exist.

    Raises:
        UnsafeName: A part is empty, ``.`` or ``..``, has a separator or a control character, is too long, or is a
            symbolic link that leads out of the folder.
    """
    root = Path(os.path.realpath(folder))
    for part in parts:
        bad_letters = {"/", "\\"} & set(part) or not part.isprintable()
        if part in ("", ".", "..") or bad_letters or len(part.encode()) > MAX_FILE_NAME_BYTES:
            raise UnsafeName(f"'{one_line(part, SHOWN_LENGTH)}' is no name of a file in {folder}")
    path = root.joinpath(*parts)
    if not Path(os.path.realpath(path)).is_relative_to(root):
        raise UnsafeName(f"{path} is a symbolic link that leads out of {folder}; remove the link")
    return path
