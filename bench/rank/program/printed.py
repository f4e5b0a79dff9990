"""The rate that a program prints itself: found in what it writes to standard output and standard error."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MAX_LINE_BYTES = 4096
"""Of a longer line, as much of its end is looked at."""
MAX_VALUES = 10_000
LINE_END = re.compile(rb"[\r\n]")


class PrintedValues:
    """The values that match a regular expression, line by line; a carriage return ends a line too.

    Args:
        metric: A regular expression with one group, which holds a number.
        on_value: Called after each value, in the thread that printed it.
    """

    def __init__(self, metric: str, on_value: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        """How many were printed, also beyond those that are kept."""
        self._pattern, self._on_value = re.compile(metric), on_value
        self._at_ns, self._values = array("q", bytes(8 * MAX_VALUES)), array("d", bytes(8 * MAX_VALUES))

    def between(self, began_ns: int, ended_ns: int) -> list[float]:
        """The values that were printed between two times of the monotonic clock, if they are kept: the last ones."""
        kept = range(max(0, self.count - MAX_VALUES), self.count)
        return [self._values[one % MAX_VALUES] for one in kept if began_ns <= self._at_ns[one % MAX_VALUES] <= ended_ns]

    def look(self, line: bytes) -> None:
        """Look at a line without its end."""
        found = self._pattern.search(line[-MAX_LINE_BYTES:].decode(errors="replace"))
        if found is None or found[1] is None:
            return
        # 1,234.5 as people write it.
        text = found[1].replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d*)?", found[1]) else found[1]
        with suppress(ValueError):
            self._values[self.count % MAX_VALUES] = float(text)
            self._at_ns[self.count % MAX_VALUES] = time.monotonic_ns()
            self.count += 1
            self._on_value()


class WatchedOutput(io.RawIOBase):
    """Writes to a file descriptor and shows each line that is written."""

    def __init__(self, descriptor: int, look: Callable[[bytes], None]) -> None:
        super().__init__()
        self._descriptor, self._look, self._started = descriptor, look, b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        written = os.write(self._descriptor, data)
        *lines, rest = LINE_END.split(bytes(data[:written]))
        for line in lines:
            if text := self._started + line:
                self._look(text)
            self._started = b""
        self._started = (self._started + rest)[-MAX_LINE_BYTES:]
        return written

    def look_at_rest(self) -> None:
        """Look at a line that has no end yet."""
        rest, self._started = self._started, b""
        if rest:
            self._look(rest)


def watch_output(values: PrintedValues) -> Callable[[], None]:
    """Look at all that Python code of this process prints from now on, also through loggers that are made later.

    Returns:
        A function to call once at the end: it looks at what is not a whole line yet.
    """
    outputs = []
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        with suppress(OSError, ValueError, AttributeError):
            getattr(sys, name).flush()
        raw = WatchedOutput(descriptor, values.look)
        # Each line at once: when it was printed is a time of the measurement.
        text = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
        outputs.append((text, raw))

    def finish() -> None:
        for text, raw in outputs:
            with suppress(OSError, ValueError):
                text.flush()
            raw.look_at_rest()

    return finish
