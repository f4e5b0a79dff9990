"""Reads a user's program as a sweep takes it: the script, and the Python files of its folder."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.core.program import Program
from bench.core.script_command import CommandProblem, split_command
from bench.host.paths import from_home
from bench.plugins.sources import describe_problem, text_digest
from harness.errors import UsageError

MAX_FILES = 400
MAX_BYTES = 512 * 1024
"""Of all Python files of a program together: they are part of every case."""
MAX_ENTRIES = 20_000
"""Of a folder that are looked at."""
ENVIRONMENT_MARK = "pyvenv.cfg"
"""A folder with this file is a virtual environment."""
MODULE_FLAG = "-m"
OWN_PACKAGE = "bench"
IMPORTS_OWN = re.compile(rf"^\s*(from|import)\s+{OWN_PACKAGE}\b", re.MULTILINE)
LEFT_OUT = frozenset({"__pycache__", "site-packages", "node_modules"})


def read_program(command: str, base: Path, place: str = "") -> Program:
    """The program of a command, which is started in the current folder.

    Args:
        command: The script with its arguments; their values are of no interest.
        base: The folder that the script's path is relative to.
        place: Where the command was given, for messages: ``--script``.

    Raises:
        UsageError: The script is missing, can't be read, or is no Python.
    """
    where = f"{place} " if place else ""
    words = _words(command, where)
    shown = f"{where}{words[0]}"
    if words[0] in ("python", "python3"):
        raise UsageError(f"{shown}: leave it out and begin with the script, for example train.py")
    if words[0] == MODULE_FLAG:
        name = words[1] if len(words) > 1 else ""
        return _read(base, _module_file(base, name, where), name, Path.cwd(), f"{where}-m {name}")
    if not words[0].endswith(".py"):
        raise UsageError(f"{shown}: name a Python file, for example train.py --epochs 1")
    path = base / from_home(words[0])
    return _read(path.parent, path.name, None, Path.cwd(), shown)


def read_again(program: Program) -> Program:
    """The program as it is now. Raises :class:`UsageError` as :func:`read_program` does."""
    return read_in(program, Path(program.folder), Path(program.working_directory))


def read_in(program: Program, folder: Path, working_directory: Path) -> Program:
    """The program as it is in another folder, such as that of another commit.

    Raises :class:`UsageError` as :func:`read_program` does.
    """
    return _read(folder, program.script, program.module, working_directory, program.script)


def changed_files(before: Program, now: Program) -> tuple[str, ...]:
    """The Python files that were changed, added or removed, in alphabetical order (pure)."""
    names = sorted(before.digests.keys() | now.digests.keys())
    return tuple(name for name in names if before.digests.get(name) != now.digests.get(name))


def _module_file(base: Path, module: str, where: str) -> str:
    """The file of a module in a folder, relative to it. Raises :class:`UsageError` where there is none."""
    stem = module.replace(".", "/")
    for name in (f"{stem}.py", f"{stem}/__main__.py"):
        if all(part.isidentifier() for part in module.split(".")) and (base / name).is_file():
            return name
    example = f"{stem}.py" if module else "package/train.py for -m package.train"
    raise UsageError(f"{where}-m {module}: no such module in {base.resolve()}; its file would be {example}")


def _read(folder: Path, script: str, module: str | None, working_directory: Path, shown: str) -> Program:
    text = _read_script(folder / script, shown)
    folder = folder.resolve()
    files, left_out = _python_files(folder, script, text)
    if problem := _taken_name(files):
        raise UsageError(f"{shown}: {problem}")
    digests = {name: text_digest(content) for name, content in sorted(files.items())}
    return Program(
        script=script,
        folder=str(folder),
        module=module,
        working_directory=str(working_directory.resolve()),
        digest=text_digest("\n".join(f"{name} {digest}" for name, digest in digests.items())),
        digests=digests,
        files=files,
        left_out=left_out,
    )


def _words(command: str, where: str) -> tuple[str, ...]:
    try:
        words = split_command(command)
    except CommandProblem as problem:
        raise UsageError(f"{where}{command}: {problem}") from None
    if not words:
        raise UsageError(f"{where}names no script; for example train.py --epochs 1")
    return words


def _read_script(path: Path, shown: str) -> str:
    try:
        if not path.exists():
            raise UsageError(f"{shown}: no such file in {path.parent.resolve()}")
        if not path.is_file():
            raise UsageError(f"{shown}: is no regular file; name a Python file")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{shown}: is larger than {MAX_BYTES // 1024} KiB, which no script is")
        text = _read_text(path)
    except (OSError, ValueError) as problem:  # no UTF-8 text, or a name that no file can have
        raise UsageError(f"{shown}: cannot be read ({problem})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text.encode(), path.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise UsageError(f"{shown}: {describe_problem(problem, path.name)}") from None
    return text


def _read_text(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def _python_files(folder: Path, script: str, text: str) -> tuple[dict[str, str], str | None]:
    """The text of each Python file of a folder; the script alone, and why, where they are too many."""
    files, size = {script: text}, len(text.encode())
    alone = {script: text}
    try:
        for path in _walk(folder, [MAX_ENTRIES]):
            name = path.relative_to(folder).as_posix()
            if name in files:
                continue
            size += path.stat().st_size
            if len(files) >= MAX_FILES or size > MAX_BYTES:
                return alone, f"they are more than {MAX_FILES} files, or {MAX_BYTES // 1024} KiB"
            try:
                files[name] = _read_text(path)
            except (OSError, ValueError):
                # No UTF-8 text: where the folder is, the copy links to it.
                continue
    except _TooManyEntriesError:
        return alone, f"the folder has more than {MAX_ENTRIES:,} entries"
    return files, None


def _taken_name(files: Mapping[str, str]) -> str | None:
    """Why the program would import another package than the one in its folder, with the remedy (pure)."""
    importing = next((name for name, text in sorted(files.items()) if IMPORTS_OWN.search(text)), None)
    has_own = any(name == f"{OWN_PACKAGE}.py" or name.startswith(f"{OWN_PACKAGE}/") for name in files)
    if importing is None or not has_own:
        return None
    return (
        f"{importing} imports '{OWN_PACKAGE}' from the folder of the script, and a package of this name watches the "
        "program in each rank: rename yours"
    )


class _TooManyEntriesError(Exception):
    pass


def _walk(folder: Path, left: list[int]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    left[0] -= len(entries)
    if left[0] < 0:
        raise _TooManyEntriesError
    if any(entry.name == ENVIRONMENT_MARK for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in LEFT_OUT:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), left)
        elif entry.name.endswith(".py") and entry.is_file():
            yield Path(entry.path)
