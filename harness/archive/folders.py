"""What of the folder beside a store is a sweep's own: its pages, the logs of its trials, what waits to be stored.

A folder has the name of its sweep, which may come from somebody else's store: nothing is taken for the sweep's because
of where it lies.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.core.frozen_model import FrozenModel
from bench.host.running_code import COPY_FILE
from harness.output_files import PARTIAL, holds_signature
from harness.planning.source_copy import COPY_NAME
from harness.sweep.unstored import PREFIX as UNSTORED
from reports.page.html import SIGNATURE

TRIAL = re.compile(r"\d{2,6}-[0-9a-f]{8}")
"""The name of a trial's folder: :func:`harness.sites.base.running_trial.start_trial`."""
PAGE = re.compile(r"(report|beside-.+)\.html")
OWN_FILE = re.compile(rf"\.?{UNSTORED}[0-9a-f]{{16}}\.json(\.\d+)?|{PARTIAL.pattern}")
BLOCK_BYTES = 512
"""Of ``st_blocks``."""


class SweepFolder(FrozenModel):
    """A sweep's folder as it is on the disk."""

    path: str
    own: tuple[str, ...] = ()
    """The names in it that are the sweep's."""
    others: tuple[str, ...] = ()
    """The names in it that are not, and stay."""
    files: int = 0
    """Number of files that are the sweep's."""
    bytes: int = 0
    """What they take on the disk."""


def read_folder(folder: Path) -> SweepFolder | None:
    """What a sweep's folder holds; ``None`` where there is none."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    entries = sorted(folder.iterdir())
    own = [entry for entry in entries if _is_own(entry)]
    files = [file for entry in own for file in _files(entry)]
    return SweepFolder(
        path=str(folder),
        own=tuple(entry.name for entry in own),
        others=tuple(entry.name for entry in entries if entry not in own),
        files=len(files),
        bytes=sum(_disk_bytes(file) for file in files),
    )


def remove_own(folder: Path) -> None:
    """Remove what is the sweep's, and the folder where nothing else is in it. What is gone already is no error.

    Raises:
        OSError: Something can't be removed.
    """
    found = read_folder(folder)
    if found is None:
        return
    for name in found.own:
        entry = folder / name
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    if not found.others:
        folder.rmdir()


def _is_own(entry: Path) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return bool(TRIAL.fullmatch(entry.name)) or (entry.name == COPY_NAME and (entry / COPY_FILE).exists())
    if PAGE.fullmatch(entry.name):
        return entry.is_file() and holds_signature(entry, SIGNATURE)
    return entry.is_file() and bool(OWN_FILE.fullmatch(entry.name))


def _files(entry: Path) -> Iterator[Path]:
    if not entry.is_dir():
        yield entry
        return
    for parent, _, names in os.walk(entry):
        yield from (Path(parent, name) for name in names)


def _disk_bytes(file: Path) -> int:
    try:
        return file.lstat().st_blocks * BLOCK_BYTES
    except OSError:
        return 0
