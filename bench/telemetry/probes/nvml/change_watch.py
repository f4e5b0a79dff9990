"""When a counter that is slow to read is called, so that the moments of its changes are known and calls are few.

An energy counter that changes every 0.1 s says little at other moments: its value is as old as that. Here it is called
again and again from shortly before a change is due until the change shows, which is then known to one call.
"""

from __future__ import annotations

import math
from typing import NamedTuple

CALL_INTERVAL_S = 0.004
"""From one call to the next, while a change is waited for, in seconds. On an H200 a call takes 0.0033 s."""
EARLY_S = 0.01
"""How long before a change is due it is waited for, in seconds."""
SPACING_S = 1.0
"""From one change to the next that is looked for, in seconds, far from the ends of a window."""
MAX_UNCERTAINTY_S = 0.05
"""Two calls that are farther apart don't tell when the value changed, in seconds."""
MAX_WAIT_UPDATES = 3
"""After so many times the usual interval without a change it is not waited for any longer."""


class CounterReading(NamedTuple):
    """A value of a counter, and when it appeared; of a counter that stands still: when it was read.

    ``None``: a change can't be seen, since calls were farther apart than :data:`MAX_UNCERTAINTY_S`.
    """

    value: float | None
    at_s: float


class ChangeWatch:
    """Watches one counter. It calls nothing itself: it says when a call is due, and is given what the calls returned.

    Args:
        update_s: The usual time between two changes, in seconds.
    """

    def __init__(self, update_s: float) -> None:
        self.update_s = update_s
        self._value: float | None = None
        self._called_s = -math.inf
        self._found_s = -math.inf
        """When the last change was, or was given up."""
        self._waiting_since_s: float | None = None

    def due_s(self, near_edge: bool) -> float:
        """When the next call is due.

        Args:
            near_edge: Whether a window is about to begin, or has just begun or ended: then every change counts.
        """
        if self._waiting_since_s is not None:
            return self._called_s + CALL_INTERVAL_S
        updates = 1 if near_edge else max(1, round(SPACING_S / self.update_s))
        return self._found_s + updates * self.update_s - EARLY_S

    def observe(self, value: float | None, began_s: float, ended_s: float) -> CounterReading | None:
        """Take in the result of a call.

        Args:
            value: What it returned; ``None``: it failed.
            began_s: When it began.
            ended_s: When it ended.

        Returns:
            A change, if the call showed one; the value itself, if there was none for too long; an unknown value, if
            the call before was too long ago.
        """
        called_s = (began_s + ended_s) / 2
        before, before_s = self._value, self._called_s
        self._value, self._called_s = value, called_s
        if value is None:
            self._found_s, self._waiting_since_s = called_s, None
            return None
        if self._waiting_since_s is None:
            self._waiting_since_s = called_s
            return None
        if called_s - before_s > MAX_UNCERTAINTY_S:
            self._waiting_since_s = called_s
            return CounterReading(None, called_s)
        if before is not None and value != before:
            self._found_s, self._waiting_since_s = (before_s + called_s) / 2, None
            return CounterReading(value, self._found_s)
        if called_s - self._waiting_since_s > MAX_WAIT_UPDATES * self.update_s:
            self._found_s, self._waiting_since_s = called_s, None
            return CounterReading(value, called_s)
        return None
