"""How a node learns that its trial has to end: by SIGTERM, by a line on standard input, or by the end of that."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

STANDARD_INPUT = 0
STOP_COMMAND = b"end"
MAX_MESSAGE_BYTES = 2**26


class HarnessDisconnected(Exception):
    """Standard input is closed at the other end: the harness is gone, and nobody waits for this trial."""


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise HarnessDisconnected from None


class NodeControl:
    """The requests to end a trial that reach this process. Replaces its handler of SIGTERM.

    Args:
        listen: Whether the harness holds standard input open, and asks for an orderly end there by the line ``end``.
    """

    def __init__(self, *, listen: bool) -> None:
        self.listen, self._stopped = listen, False
        self._buffer = b""
        self._wakeup_read, self._wakeup_write = os.pipe()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        os.write(self._wakeup_write, b".")

    @property
    def descriptors(self) -> Sequence[int]:
        """The file descriptors that become readable with a request."""
        return (self._wakeup_read, *((STANDARD_INPUT,) if self.listen else ()))

    def read_first_line(self) -> Any:
        """The JSON document on the first line of standard input; a second call reads the next one.

        Raises:
            HarnessDisconnected: If standard input ends before the line does, or the line is no message of the harness.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                raise HarnessDisconnected
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _parse(line)

    def next_document(self, idle: Callable[[], None], interval_s: float) -> Any | None:
        """Wait for the JSON document on the next line of standard input; ``None`` where an end is requested instead.

        Args:
            idle: Called while there is none, every ``interval_s`` seconds.
            interval_s: In seconds.

        Raises:
            HarnessDisconnected: If standard input ends, or the line is no message of the harness.
        """
        while not self._stopped:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                if line.strip() == STOP_COMMAND:
                    self._stopped = True
                elif line.strip():
                    return _parse(line)
                continue
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                raise HarnessDisconnected
            ready, _, _ = select.select(self.descriptors, [], [], interval_s)
            self._stopped = self._wakeup_read in ready
            if STANDARD_INPUT in ready:
                self._read()
            elif not ready:
                idle()
        return None

    def stop_requested(self) -> bool:
        """Whether an orderly end was requested; does not wait.

        Raises:
            HarnessDisconnected: If standard input is closed.
        """
        ready, _, _ = select.select(self.descriptors, [], [], 0)
        if STANDARD_INPUT in ready:
            self._read()
        self._stopped = self._stopped or STOP_COMMAND in self._buffer
        # Half a command may be followed by its other half; all else is nothing to keep.
        self._buffer = self._buffer[1 - len(STOP_COMMAND) :]
        return self._wakeup_read in ready or self._stopped

    def _read(self) -> None:
        data = os.read(STANDARD_INPUT, 2**16)
        if not data:
            raise HarnessDisconnected
        self._buffer += data
