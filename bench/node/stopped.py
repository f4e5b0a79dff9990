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
        self._resumed: dict[str, float] = {}  # seen running once: one that is killed runs for a moment, too
        self.continued: dict[str, float] = {}
        """For how many seconds each process was stopped that runs again, by its title."""
        self.ended: dict[str, float] = {}
        """The same of processes that have ended since: one that was killed had not continued before."""

    def look(self, stopped: Collection[str], running: Collection[str]) -> None:
        """Take note of the titles of the processes that are stopped now, and of all that have not ended."""
        now = self._clock()
        for title, seconds in self._resumed.items():
            durations = self.continued if title in running else self.ended
            durations[title] = durations.get(title, 0.0) + seconds
        self._resumed = {title: now - since for title, since in self._since.items() if title not in stopped}
        self._since = {title: since for title, since in self._since.items() if title in stopped}
        for title in stopped:
            self._since.setdefault(title, now)

    def stopped_for_s(self) -> dict[str, float]:
        """For how many seconds each of those that are stopped now has been seen so, by its title."""
        return {title: self._clock() - since for title, since in self._since.items()}

    @property
    def over_limit(self) -> bool:
        """Whether one has been stopped for longer than :data:`STOP_LIMIT_S`."""
        return any(self._clock() - since >= STOP_LIMIT_S for since in self._since.values())
