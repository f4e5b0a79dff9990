"""``sweeps delete``: the rows of a sweep in one transaction, then what is its own in its folder.

The transaction decides. A note beside the store, written before it, says which folder goes with it: where this process
ends in between, the next ``sweeps delete`` or ``sweeps prune`` finds the note and removes the folder of a sweep that is
gone, or the note alone where the sweep is still there.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from pydantic import ValidationError

from bench.core.frozen_model import FrozenModel
from bench.core.names import Name
from harness.archive.folders import remove_own
from harness.errors import HarnessError, StoreError
from harness.output_files import replace_file
from harness.store.artifacts import artifact_folder, artifact_root, folder_is_held, held_folder
from harness.store.deletion import delete_rows, return_space
from harness.store.location import is_same_store, store_label, store_path
from harness.store.opening import open_store
from harness.store.store import Store

NOTE_PREFIX, NOTE_SUFFIX = ".scaling-deleted-", ".json"
MAX_NOTE_BYTES = 10_000
SQLITE_HEADER = b"SQLite format 3\0"

log = logging.getLogger("scaling_harness")


class DeletionNote(FrozenModel):
    """What a deletion that was interrupted had begun."""

    store: str
    """The store's label: an absolute path, or a URL without its password."""
    sweep: Name


class RemovedSweep(FrozenModel):
    """A sweep that was deleted."""

    sweep: str
    folder_problem: str | None = None
    """Why its folder is still there; ``None`` also where it had none."""


def remove_sweeps(store: Store, store_url: str, sweeps: Sequence[str]) -> tuple[list[RemovedSweep], list[str]]:
    """Delete sweeps one after the other, and return their space to the disk.

    Args:
        store: The open store, of the present format.
        store_url: Its location.
        sweeps: Ids.

    Returns:
        What was deleted, and why something of it still takes space.

    Raises:
        StoreError: The store can't be written; those before are deleted.
        UsageError: Another process runs one; those before are deleted.
    """
    removed = [_remove(store, store_url, sweep) for sweep in sweeps]
    problems = [f"sweep {one.sweep}: {one.folder_problem}" for one in removed if one.folder_problem]
    try:
        return_space(store.database)
    except StoreError as problem:
        problems.append(str(problem))
    return removed, problems


def _remove(store: Store, store_url: str, sweep: str) -> RemovedSweep:
    folder = artifact_folder(store_url, sweep)
    shared = _other_store_with(sweep, store_url, folder.parent)
    with held_folder(folder, sweep):
        note = _write_note(folder, store_url, sweep)
        delete_rows(store.database, sweep)
        problem = f"its folder {folder} stays: store {shared} holds the sweep too" if shared else _remove_folder(folder)
        if shared or problem is None:
            note.unlink(missing_ok=True)
    return RemovedSweep(sweep=sweep, folder_problem=problem)


def finish_deletions(store: Store, store_url: str) -> None:
    """Finish what deletions of this store that were interrupted have left beside it. Raises :class:`StoreError`."""
    beside = artifact_root(store_url)
    for path in sorted(beside.glob(f"{NOTE_PREFIX}*{NOTE_SUFFIX}")):
        note = _read_note(path)
        if note is None or note.store != _store_name(store_url):
            continue
        with suppress(HarnessError):
            folder = artifact_folder(store_url, note.sweep)
            if folder_is_held(folder):  # it is being deleted, or runs
                continue
            gone = all(known.id != note.sweep for known in store.known_sweeps())
            if gone and not _other_store_with(note.sweep, store_url, beside):
                problem = _remove_folder(folder)
                if problem is not None:
                    log.warning("sweep %s is deleted; %s", note.sweep, problem)
                    continue
                log.info("sweep %s was deleted by a process that was interrupted; its folder is now, too", note.sweep)
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _remove_folder(folder: Path) -> str | None:
    """Why it could not be removed as a whole; ``None`` where it could, or never was."""
    try:
        remove_own(folder)
    except OSError as problem:
        return f"its folder {folder} can't be removed as a whole ({problem.strerror}); repeat `sweeps delete`"
    return None


def _write_note(folder: Path, store_url: str, sweep: str) -> Path:
    digest = hashlib.sha256(f"{_store_name(store_url)}\0{sweep}".encode()).hexdigest()[:16]
    path = folder.parent / f"{NOTE_PREFIX}{digest}{NOTE_SUFFIX}"
    try:
        replace_file(path, DeletionNote(store=_store_name(store_url), sweep=sweep).model_dump_json().encode())
    except OSError as problem:
        raise StoreError(
            f"folder {folder.parent}: cannot be written ({problem.strerror}), so nothing of sweep {sweep} is deleted; "
            "make it writable"
        ) from None
    return path


def _read_note(path: Path) -> DeletionNote | None:
    try:
        with path.open("rb") as file:
            return DeletionNote.model_validate_json(file.read(MAX_NOTE_BYTES))
    except (OSError, ValidationError):
        return None


def _store_name(store_url: str) -> str:
    path = store_path(store_url)
    return store_label(store_url) if path is None else os.path.realpath(path)


def _other_store_with(sweep: str, store_url: str, folder: Path) -> str | None:
    """The name of another store in a folder that holds a sweep of that id, whose pages and logs are there too."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == NOTE_SUFFIX or not _is_sqlite(path) or is_same_store(str(path), store_url):
            continue
        with suppress(HarnessError), closing(open_store(f"{path}", create=False)) as other:
            if any(known.id == sweep for known in other.known_sweeps()):
                return path.name
    return None


def _is_sqlite(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    except OSError:
        return False
