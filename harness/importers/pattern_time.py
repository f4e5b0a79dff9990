"""A limit on the time that a regular expression takes with a line.

Some expressions, as ``(a+)+$``, take a time that doubles with each character. Python's matching cannot be given a
limit, but it handles signals.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterable
from typing import Any

MATCH_LIMIT_S = 5
"""CPU time, which a busy machine does not lengthen. A line that takes up to twice as long may pass."""


class PatternTimeError(Exception):
    """A line took too long. ``line``: its number, from 1."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def limited_lines(lines: Iterable[str], limit_s: float = MATCH_LIMIT_S) -> Generator[str]:
    """The same lines; while the caller works on one, :class:`PatternTimeError` is raised there after the limit.

    Close it, also after an error. Only the main thread has the limit, since Python handles signals there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from lines
        return
    number = last_seen = 0

    def check(*_: Any) -> None:
        nonlocal last_seen
        if number == last_seen:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            raise PatternTimeError(number)
        last_seen = number

    earlier = signal.signal(signal.SIGVTALRM, check)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s, limit_s)
    try:
        for number, line in enumerate(lines, 1):  # noqa: B007 - read by check
            yield line
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, earlier)
