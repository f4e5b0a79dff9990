"""The standard streams of the command: writing to them never raises, so that an exit status is that of the work.

A reader may end early (``check | head``), the disk behind ``> FILE`` may be full, a stream may be closed (``>&-``), and
an encoding may lack a character. Python would end with status 1 or 120 then, and 1 means a regression.
"""

from __future__ import annotations

import io
import locale
import os
import sys
from typing import TYPE_CHECKING, TextIO

from harness.errors import EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = 0, 1, 2


class _TolerantFile(io.FileIO):
    """A file descriptor that is replaced by the null device when it can't be written."""

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as problem:
            self.problem = problem
            # Children write to the same descriptor, and would fail as well.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


class StandardStreams:
    """Takes the place of ``sys.stdout`` and ``sys.stderr`` for the rest of this process."""

    def __init__(self) -> None:
        _open_closed_descriptors()
        self._stdout, self._stderr = (
            _TolerantFile(STDOUT, "w", closefd=False),
            _TolerantFile(STDERR, "w", closefd=False),
        )
        sys.stdout = _text_stream(self._stdout, sys.stdout)
        sys.stderr = _text_stream(self._stderr, sys.stderr)

    def exit_status(self, status: int) -> int:
        """Write what is buffered; the exit status of a command that ended with ``status``.

        A reader that ended early changes nothing. Output that was lost otherwise is bad usage, unless the command has
        something graver to report.
        """
        sys.stdout.flush()
        problem = self._stdout.problem
        if problem is not None and not isinstance(problem, BrokenPipeError):
            print(f"error: standard output cannot be written ({problem.strerror}); write elsewhere", file=sys.stderr)
            status = EXIT_USAGE if status == EXIT_OK else status
        sys.stderr.flush()
        return status


def _open_closed_descriptors() -> None:
    """Open the null device for each standard stream that is closed: other files would get its number."""
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _text_stream(file: _TolerantFile, before: TextIO | None) -> TextIO:
    """A text stream like the one before it; a character that its encoding lacks is written as an escape sequence."""
    strict = before is None or before.errors == "strict"
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=before.encoding if before is not None else locale.getpreferredencoding(False),
        errors="backslashreplace" if before is None or strict else before.errors,
        line_buffering=file.isatty() or file.fileno() == STDERR,
        write_through=bool(getattr(before, "write_through", False)),
    )
