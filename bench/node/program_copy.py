"""The copy of a program's folder that the ranks of a node run: as the program was when its sweep began.

Whatever else is in the program's folder is reachable from the copy where that folder exists on the node: the copy holds
links to it, so that ``Path(__file__).parent / "data"`` leads to the data.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from bench.core.program import Program, copy_folder_name
from bench.rank.program.board import board_file

BYTECODE = "__pycache__"


def write_program_copy(program: Program, out: Path, node: int) -> Path:
    """Write the copy of a node and return its folder.

    Args:
        program: A program with its files.
        out: The trial's folder.
        node: The number of the node.
    """
    remove_program_copy(out, node)
    copy, partial = out / copy_folder_name(node), out / f"{copy_folder_name(node)}.partial"
    for name, text in program.files.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    own_folders = {str(parent) for name in program.files for parent in PurePosixPath(name).parents}
    for folder in sorted(own_folders):
        for entry in _entries(Path(program.folder) / folder):
            target = partial / folder / entry.name
            if entry.name != BYTECODE and not os.path.lexists(target):
                target.symlink_to(entry.path)
    # Ranks that another program starts wait for it: it is there at once, whole.
    partial.rename(copy)
    return copy


def remove_program_copy(out: Path, node: int) -> None:
    """Remove the copy of a node and nothing that it links to, and what its ranks have shared."""
    for name in (copy_folder_name(node), f"{copy_folder_name(node)}.partial"):
        shutil.rmtree(out / name, ignore_errors=True)
    with suppress(OSError):
        # What an earlier attempt in the same folder has decided is nothing to go by.
        (out / board_file(node)).unlink()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return
