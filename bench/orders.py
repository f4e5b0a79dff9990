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
END = b"end"


class HarnessHasGone(Exception):
    """The other end of standard input is closed: nobody waits for this trial any more."""


class SystemOrders:
    """SIGTERM asks for an orderly end; with ``listen`` so does the line ``end`` on standard input."""

    def __init__(self, *, listen: bool) -> None:
        self.listen = listen
        self._rest = b""
        self._told, self._tell = os.pipe()
        signal.signal(signal.SIGTERM, self._terminated)

    def _terminated(self, signum: int, frame: FrameType | None) -> None:
        os.write(self._tell, b".")

    @property
    def descriptors(self) -> Sequence[int]:
        return (self._told, *((STANDARD_INPUT,) if self.listen else ()))

    def first_line(self) -> Any:
        """The JSON document that standard input begins with. Raises :class:`HarnessHasGone`."""
        while b"\n" not in self._rest:
            self._read()
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def heard(self) -> bool:
        """Whether the node was told to end; asks without waiting. Raises :class:`HarnessHasGone`."""
        ready, _, _ = select.select(self.descriptors, [], [], 0)
        if STANDARD_INPUT in ready:
            self._read()
        return self._told in ready or END in self._rest

    def _read(self) -> None:
        found = os.read(STANDARD_INPUT, 2**16)
        if not found:
            raise HarnessHasGone
        self._rest += found
