"""The logs of processes: how much of one is kept on disk, and how much of it is read.

A process may print a gigabyte, or bytes that are no text. It appends to its log (``O_APPEND``), so that the file can be
shortened while the process writes.
"""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path

from bench.core.text import printable
from bench.host.regular_files import UnusableFile, open_regular

MAX_LOG_BYTES = 2**24
KEPT_BEGINNING_BYTES = 2**16
"""What is kept of the beginning of a log that was too long: the first error is often the cause of all others."""
KEPT_BYTES = 2**18
"""What is kept of its end, and the most that is read of any."""
MAX_FRAMES, MAX_PIECE_LENGTH = 100, 4000
"""Frames of a traceback, and characters of one of them or of a message."""
MAX_LINE_LENGTH, MAX_ERROR_LENGTH = 500, 2000
"""Characters of a line, and of the message of an exception."""


def shorten_log(log: Path) -> int:
    """Drop all but the beginning and the end of a log that is longer than :data:`MAX_LOG_BYTES`.

    What is written at the same moment may be lost. Errors are ignored: a log is for people.

    Returns:
        The bytes that were dropped; 0 where it is not too long.
    """
    with suppress(OSError, UnusableFile):
        size = log.stat().st_size
        if size > MAX_LOG_BYTES:
            with open_regular(log) as source, log.open("ab") as target:
                source.seek(-KEPT_BYTES, 2)
                end = source.read(KEPT_BYTES)
                dropped = size - KEPT_BEGINNING_BYTES - len(end)
                target.truncate(KEPT_BEGINNING_BYTES)
                target.write(f"\n[{dropped} bytes of output were dropped here]\n".encode() + end)
            return dropped
    return 0


def read_end(log: Path, start: int = 0) -> list[str]:
    """The lines at the end of a log, at most :data:`KEPT_BYTES` of it; none where it can't be read.

    What is no text is replaced, as are control characters, which neither terminals nor databases take; long lines are
    cut.

    Args:
        log: The file.
        start: The position in bytes before which nothing is read. It is ignored where the log was shortened since.
    """
    with suppress(OSError, UnusableFile), open_regular(log) as file:
        size = file.seek(0, 2)
        file.seek(max(start if start <= size else 0, size - KEPT_BYTES))
        return [printable_line(line) for line in file.read(KEPT_BYTES).decode(errors="replace").split("\n")]
    return []


def last_lines(log: Path, count: int) -> list[str]:
    """The last ``count`` lines of a log, as :func:`read_end` reads it."""
    lines = read_end(log)
    return (lines[:-1] if lines and not lines[-1] else lines)[-count:]


def describe_exception(problem: BaseException) -> str:
    """The last line of an exception, as ``RuntimeError: …``, of limited length: its text may have any."""
    kind = type(problem)
    package = kind.__module__.partition(".")[0]
    # The module of a plugin is named by a digest, and those of this package say nothing to a reader.
    is_plain = package in ("builtins", "__main__", "bench") or package.startswith("scaling_plugin_")
    name = kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(problem)
    except Exception:  # a text of the user's own making
        text = "<its text can't be read>"
    text = text if len(text) <= MAX_ERROR_LENGTH else f"{text[:MAX_ERROR_LENGTH]} …"
    return printable_line(" ".join(f"{name}: {text}".split()) if text else name, MAX_ERROR_LENGTH)


def traceback_lines(problem: BaseException) -> list[str]:
    """The traceback of an exception, as Python prints it, with the texts of exceptions cut to a limited length."""
    lines: list[str] = []
    for piece in traceback.TracebackException.from_exception(problem, limit=-MAX_FRAMES).format():
        left_out = len(piece) - MAX_PIECE_LENGTH
        lines += piece[:MAX_PIECE_LENGTH].rstrip("\n").split("\n")
        lines += [f"… {left_out} characters left out"] if left_out > 0 else []
    return lines


def printable_line(line: str, max_length: int = MAX_LINE_LENGTH) -> str:
    """A line without control characters but tabs, and not longer than ``max_length`` characters (pure)."""
    line = printable(line[: max_length + 2].rstrip("\r"), keep="\t")
    return line if len(line) <= max_length else f"{line[:max_length]} …"
