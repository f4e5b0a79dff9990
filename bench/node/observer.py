"""What disturbs a trial from outside while its processes run: stops, suspensions, a full disk, logs without end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from bench.host.disk import is_full
from bench.host.logs import shorten_log
from bench.host.machine import host_name
from bench.host.suspension import SuspensionWatch
from bench.node.stopped import StoppedProcesses


class TrialObserver:
    """Keeps what repeated looks show of a trial on this machine.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk_full = folder, False
        self.dropped_log_bytes: dict[str, int] = {}
        """How much was dropped of each log that became too long, by the title of its process."""
        self._stopped, self._suspension, self._suspended_s = StoppedProcesses(), SuspensionWatch(), 0.0
        self._stopped_helpers = StoppedProcesses()

    def start(self) -> None:
        """Look at the clocks from now on."""
        self._suspension.start()

    def stop(self) -> None:
        """Look at the clocks no more."""
        self._suspension.stop()

    def look(self, stopped: Mapping[str, bool], helpers: Mapping[str, bool]) -> None:
        """Take note of which of the processes that have not ended are stopped, of the clocks and of the disk.

        Args:
            stopped: By the title of a process.
            helpers: The same of processes that others do without for a while, such as a launcher.
        """
        self._stopped.look([title for title, is_stopped in stopped.items() if is_stopped], stopped)
        self._stopped_helpers.look([title for title, is_stopped in helpers.items() if is_stopped], helpers)
        self._suspended_s = self._suspension.suspended_s
        # What a process has filled the disk with may go with the process.
        self.disk_full = self.disk_full or is_full(self.folder)

    def shorten_logs(self, logs: Mapping[str, Path]) -> bool:
        """Shorten the logs that have become too long, by the title of their process; returns whether one had."""
        dropped = {title: size for title, log in logs.items() if (size := shorten_log(log))}
        for title, size in dropped.items():
            self.dropped_log_bytes[title] = self.dropped_log_bytes.get(title, 0) + size
        return bool(dropped)

    @property
    def stopped_too_long(self) -> bool:
        """Whether a process has been stopped for so long that its trial ends."""
        return self._stopped.over_limit or self._stopped_helpers.over_limit

    def stopped_at(self) -> dict[str, float]:
        """Since when those that are stopped have been so, in seconds since the Unix epoch, by their title."""
        durations = self._stopped.stopped_for_s() | self._stopped_helpers.stopped_for_s()
        return {title: time.time() - seconds for title, seconds in durations.items()}

    def suspensions(self, *, succeeded: bool = False) -> tuple[str, ...]:
        """What did not run for a while and ran again, in sentences: the trial's times are worth nothing then.

        Args:
            succeeded: Whether all processes that have ended ended well, also those that had been stopped.
        """
        durations = self._stopped.continued | (self._stopped.ended if succeeded else {})
        sentences = [f"{title} was stopped by a signal for {seconds:.0f} s" for title, seconds in durations.items()]
        if self._suspended_s:
            sentences.append(f"the supervisor of the ranks on {host_name()} did not run for {self._suspended_s:.0f} s")
        return tuple(sentences)
