"""The standard streams of the command: writing to them never raises, so that an exit status is that of the work, and
standard output takes results only.

A reader may end early (``check | head``), the disk behind ``> FILE`` may be full, a stream may be closed (``>&-``), and
an encoding may lack a character. Python would end with status 1 or 120 then, and 1 means a regression.
"""

from __future__ import annotations

import io
import locale
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from harness.errors import EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = 0, 1, 2
_results: TextIO | None = None  # while a command runs


def results() -> TextIO:
    """Standard output, for results."""
    return _results or sys.stdout


@contextmanager
def results_apart() -> Iterator[None]:
    """A context in which :func:`print` writes to standard error: plugins and libraries may print anything.

    Standard output takes what is written to :func:`results`, such as one JSON document.
    """
    global _results
    before, sys.stdout, _results = sys.stdout, sys.stderr, sys.stdout
    try:
        yield
    finally:
        sys.stdout, _results = before, None


class _TolerantFile(io.FileIO):
    """A file descriptor that is replaced by the null device when it can't be written, with those that children use."""

    def __init__(self, *descriptors: int) -> None:
        super().__init__(descriptors[0], "w", closefd=False)
        self.descriptors = descriptors

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as problem:
            self.problem = problem
            # Children write to the same descriptor, and would fail as well.
            null = os.open(os.devnull, os.O_WRONLY)
            for descriptor in self.descriptors:
                os.dup2(null, descriptor)
            os.close(null)
            return memoryview(data).nbytes


class _TextStream(io.TextIOWrapper):
    """A text stream that a plugin or a library can't close."""

    def close(self) -> None:
        self.flush()


class StandardStreams:
    """Takes the place of ``sys.stdout`` and ``sys.stderr`` for the rest of this process.

    What children, and libraries that are not written in Python, write to standard output goes to standard error.
    """

    def __init__(self) -> None:
        open_closed_descriptors()
        if sys.stdout is not None:
            sys.stdout.flush()
        self._stdout = _TolerantFile(os.dup(STDOUT))
        os.dup2(STDERR, STDOUT)
        self._stderr = _TolerantFile(STDERR, STDOUT)
        self._texts = _text_stream(self._stdout, sys.stdout), _text_stream(self._stderr, sys.stderr)
        sys.stdout, sys.stderr = self._texts

    def exit_status(self, status: int) -> int:
        """Write what is buffered; the exit status of a command that ended with ``status``.

        A reader that ended early changes nothing. Output that was lost otherwise is bad usage, unless the command has
        something graver to report.
        """
        stdout, stderr = self._texts
        stdout.flush()
        problem = self._stdout.problem
        if problem is not None and not isinstance(problem, BrokenPipeError):
            print(f"error: standard output cannot be written ({problem.strerror}); write elsewhere", file=stderr)
            status = EXIT_USAGE if status == EXIT_OK else status
        stderr.flush()
        return status


def open_closed_descriptors() -> None:
    """Open the null device for each standard stream that is closed: other files would get its number."""
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _text_stream(file: _TolerantFile, before: TextIO | None) -> _TextStream:
    """A text stream like the one before it; a character that its encoding lacks is written as an escape sequence."""
    # Others raise, "surrogateescape" too, which Python sets in the C locale.
    lenient = before is not None and before.errors in ("ignore", "replace", "xmlcharrefreplace", "namereplace")
    return _TextStream(
        io.BufferedWriter(file),
        encoding=before.encoding if before is not None else locale.getpreferredencoding(False),
        errors=before.errors if before is not None and lenient else "backslashreplace",
        line_buffering=file.isatty() or file.fileno() == STDERR,
        write_through=bool(getattr(before, "write_through", False)),
    )
