"""Processes that a signal has stopped (SIGSTOP, SIGTSTP): since when, and for how long those that continued were."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

STOP_LIMIT_S = 20.0
"""How long a process may be stopped before its trial ends: shorter than the time after which others give up on it."""


class StoppedProcesses:
    """What repeated looks at the states of processes show.

    Args:
        clock: In seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self.continued: dict[str, float] = {}
        """For how many seconds each process was stopped that runs again, by its title."""

    def look(self, stopped: Collection[str]) -> None:
        """Take note of the titles of those that are stopped now."""
        now = self._clock()
        for title in [title for title in self._since if title not in stopped]:
            self.continued[title] = self.continued.get(title, 0.0) + now - self._since.pop(title)
        for title in stopped:
            self._since.setdefault(title, now)

    @property
    def over_limit(self) -> bool:
        """Whether one has been stopped for longer than :data:`STOP_LIMIT_S`."""
        return any(self._clock() - since >= STOP_LIMIT_S for since in self._since.values())
