"""Who may tell a node to end: its site by SIGTERM, the harness by a line on standard input, or by being gone."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

STANDARD_INPUT = 0
STOP_COMMAND = b"end"


class HarnessDisconnected(Exception):
    """The other end of standard input is closed: nobody waits for this trial any more."""


class NodeControl:
    """SIGTERM asks for an orderly end; with ``listen`` so does the line ``end`` on standard input."""

    def __init__(self, *, listen: bool) -> None:
        self.listen = listen
        self._buffer = b""
        self._wakeup_read, self._wakeup_write = os.pipe()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        os.write(self._wakeup_write, b".")

    @property
    def descriptors(self) -> Sequence[int]:
        return (self._wakeup_read, *((STANDARD_INPUT,) if self.listen else ()))

    def read_first_line(self) -> Any:
        """The JSON document that standard input begins with. Raises :class:`HarnessDisconnected`."""
        while b"\n" not in self._buffer:
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def stop_requested(self) -> bool:
        """Whether the node was told to end; asks without waiting. Raises :class:`HarnessDisconnected`."""
        ready, _, _ = select.select(self.descriptors, [], [], 0)
        if STANDARD_INPUT in ready:
            self._read()
        return self._wakeup_read in ready or STOP_COMMAND in self._buffer

    def _read(self) -> None:
        data = os.read(STANDARD_INPUT, 2**16)
        if not data:
            raise HarnessDisconnected
        self._buffer += data
