"""The folder of a sweep beside its store: its page, the logs of trials that failed, the files of running ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.core.names import UnsafeName, file_stem, path_inside
from harness.errors import StoreError, UsageError
from harness.output_files import FolderHeld, folder_lock
from harness.store import DEFAULT_STORE
from harness.store.location import store_path

PAGE = "report.html"
ATTEMPTS, PAUSE_S = 10, 0.05


def artifact_root(store_url: str) -> Path:
    """The folder with those of all sweeps: beside a file store; where the default one would be for a server."""
    return (store_path(store_url) or Path(DEFAULT_STORE)).parent


def artifact_folder(store_url: str, sweep: str) -> Path:
    """The folder of the pages and logs of a sweep.

    Raises :class:`UsageError` where that folder is a symbolic link to another place.
    """
    try:
        return path_inside(artifact_root(store_url), file_stem(sweep))
    except UnsafeName as problem:
        raise UsageError(f"sweep {sweep}: {problem}") from None


def default_page(store_url: str, sweep: str) -> Path:
    return artifact_folder(store_url, sweep) / PAGE


@contextmanager
def held_folder(folder: Path, sweep: str) -> Iterator[None]:
    """A context that creates the folder of a sweep, and holds it: while one process runs a sweep, no other runs or
    deletes it. A folder that stays empty is removed.

    Raises:
        StoreError: It can't be created.
        UsageError: Another process holds it.
    """
    with ExitStack() as lock:
        try:
            _enter(lock, folder)
        except FolderHeld:
            raise UsageError(f"sweep {sweep}: another process runs or deletes it; wait for its end") from None
        except OSError as problem:
            message = f"cannot be written ({problem.strerror}); make it writable, or name another store with --store"
            raise StoreError(f"folder {folder}: {message}") from None
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()


def _enter(lock: ExitStack, folder: Path) -> None:
    """Somebody who only looks whether it is held holds it for an instant (:func:`folder_is_held`)."""
    for _ in range(ATTEMPTS):
        with suppress(FolderHeld):
            lock.enter_context(folder_lock(folder))
            return
        time.sleep(PAUSE_S)
    lock.enter_context(folder_lock(folder))


def folder_is_held(folder: Path) -> bool:
    """Whether a process of this machine runs or deletes the sweep of a folder."""
    if not folder.is_dir():
        return False
    try:
        with folder_lock(folder):
            return False
    except FolderHeld:
        return True
    except OSError:  # it can't even be read
        return False
