"""A command that measures runs from a copy of its sources: what is saved meanwhile changes nothing of it.

The process copies the packages and runs the same command again from there. All that it starts (ranks, agents,
launchers, the sides of pairs, the steps of a night) imports from the copy too, whose folder is the first in
``PYTHONPATH``.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.host.running_code import (
    CODE,
    COPY_FILE,
    DIGEST_LENGTH,
    ORIGIN,
    SourceCopy,
    read_source_copy,
    write_source_copy,
)
from bench.host.scratch import SHORT_FOLDERS, adopt_scratch, create_scratch
from harness.errors import UsageError
from harness.planning.git import full_commit, read_code_state

PACKAGES = ("bench", "reports", "harness")
SUITES = "suites"
"""Beside the packages of a checkout; the benchmarks of a night are in it."""
BYTECODE = "__pycache__"
COPY_NAME = "sources"
MAX_ATTEMPTS, PAUSE_S = 5, 0.2
"""How often the sources are copied while they keep changing, and the time between."""


def run_from_copy() -> None:
    """Run this process's command from a copy of its sources: replaces the program of the process, once.

    Does nothing where the packages can't be found by ``PYTHONPATH`` (``python -E``), or are no files (a zip archive).

    Raises:
        UsageError: The sources can't be copied.
    """
    copy = read_source_copy()
    if copy is not None:
        if copy.owner == os.getpid():
            adopt_scratch(CODE.parent, copy.lock)
            # Before the copy is removed.
            atexit.register(return_bytecode)
        return
    if sys.flags.ignore_environment or not (CODE / PACKAGES[0]).is_dir():
        return
    try:
        scratch = create_scratch(_parent_folder())
        target = scratch.path.resolve() / COPY_NAME
        copy_sources(target, scratch.lock.fileno())
    except OSError as problem:
        raise UsageError(
            f"temporary folder {tempfile.tempdir or '/tmp'}: the sources can't be copied there ({problem.strerror}); "
            "free some space, or set TMPDIR to a writable folder"
        ) from None
    os.set_inheritable(scratch.lock.fileno(), True)
    env = {**os.environ, "PYTHONPATH": python_path(target, os.environ)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], env)


def _parent_folder() -> Path:
    """The temporary folder; another one where its name can't be part of ``PYTHONPATH``."""
    folder = Path(tempfile.gettempdir())
    if os.pathsep not in str(folder.resolve()):
        return folder
    return next((place for place in SHORT_FOLDERS if os.access(place, os.W_OK)), folder)


def python_path(first: Path | None, env: Mapping[str, str]) -> str:
    """``PYTHONPATH`` with a folder in front, and without the copy that this process runs from (pure)."""
    others = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    inherited = [entry for entry in others if entry != str(CODE) or ORIGIN == CODE]
    return os.pathsep.join([*([str(first)] if first else []), *inherited])


def copy_sources(target: Path, lock: int) -> None:
    """Copy the packages that run to a new folder, all files as they were at one moment.

    Args:
        target: The folder.
        lock: The file descriptor of the lock that holds it.

    Raises:
        OSError: It can't be written.
        UsageError: The sources kept changing.
    """
    for _ in range(MAX_ATTEMPTS):
        # An editor may replace a file by another one: it is missing for a moment.
        with suppress(FileNotFoundError):
            for name in _copied_folders():
                copy_folder(CODE / name, target / name)
            state, commit = read_code_state(), full_commit()
            if file_digests(target) == file_digests(CODE):
                copy = SourceCopy(str(ORIGIN), os.getpid(), lock, commit, state.changed_files, state.reason)
                return write_source_copy(target, copy)
        shutil.rmtree(target, ignore_errors=True)
        time.sleep(PAUSE_S)
    raise UsageError(f"{CODE}: its files change while they are copied; wait for that to end and repeat the command")


def share_sources(folder: Path) -> Path:
    """The packages that run in a folder that other machines see too, made at the first call.

    Args:
        folder: The folder of a sweep. Jobs that outlive this process find them there, and a resumed sweep uses them.
    """
    target = folder / COPY_NAME
    if not (target / COPY_FILE).exists() or file_digests(target) != file_digests(CODE):
        shutil.rmtree(target, ignore_errors=True)
        for name in _copied_folders():
            copy_folder(CODE / name, target / name)
        copy = read_source_copy() or SourceCopy(str(ORIGIN), os.getpid(), -1, None, None, None)
        write_source_copy(target, copy)
    return target.resolve()


def remove_shared_sources(folder: Path) -> None:
    """Remove what :func:`share_sources` made in a sweep's folder."""
    if (folder / COPY_NAME / COPY_FILE).exists():
        shutil.rmtree(folder / COPY_NAME, ignore_errors=True)


def file_digests(folder: Path, names: Sequence[str] = PACKAGES, suffix: str = "") -> dict[str, str]:
    """The digest of each file of some packages in a folder, by its path there: neither bytecode nor hidden files."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_LENGTH]
        for name in names
        for path in sorted(files_of(folder / name))
        if path.name.endswith(suffix)
    }


def _copied_folders() -> tuple[str, ...]:
    suites = (SUITES,) if (CODE / SUITES).is_dir() and (CODE / "pyproject.toml").is_file() else ()
    return PACKAGES + suites


def files_of(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files of a package, or itself where it is a file: editors' locks and backups begin with a full stop.

    A link that leads back to a folder above it (``above``: those that were entered) is not followed.
    """
    if folder.is_file():
        yield folder
        return
    if (real := folder.resolve()) in above:
        return
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == BYTECODE:
            continue
        if path.is_dir():
            yield from files_of(path, (*above, real))
        elif path.is_file():
            yield path


def copy_folder(folder: Path, target: Path) -> None:
    """Copy a folder with its bytecode, which is valid for files of the same time and size."""
    for path in files_of(folder):
        copied = target / path.relative_to(folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copied)
        if path.suffix == ".py":
            _copy_bytecode(path, copied)


def _copy_bytecode(path: Path, copied: Path) -> None:
    cached = path.parent / BYTECODE / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
    with suppress(FileNotFoundError):
        # Times are compared in whole seconds: bytecode of the same second may be that of the text before.
        if int(cached.stat().st_mtime) > int(path.stat().st_mtime):
            (copied.parent / BYTECODE).mkdir(exist_ok=True)
            shutil.copy2(cached, copied.parent / BYTECODE / cached.name)


def return_bytecode() -> None:
    """Keep what was compiled in the copy beside the files of its origin, where Python would have kept it.

    Otherwise each command would compile it again. Files that were changed meanwhile are left out.
    """
    if sys.dont_write_bytecode:
        return
    for cached in (path for name in PACKAGES for path in (CODE / name).rglob(f"*.{sys.implementation.cache_tag}.pyc")):
        target = ORIGIN / cached.relative_to(CODE)
        source = Path(importlib.util.source_from_cache(str(target)))
        with suppress(OSError):
            was, now = (CODE / source.relative_to(ORIGIN)).stat(), source.stat()
            is_newer = not target.exists() or target.stat().st_mtime < cached.stat().st_mtime
            if is_newer and (was.st_mtime_ns, was.st_size) == (now.st_mtime_ns, now.st_size):
                target.parent.mkdir(exist_ok=True)
                partial = target.with_name(f"{target.name}.{os.getpid()}")
                try:
                    shutil.copy2(cached, partial)
                    partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
