"""Notices that this process did not run for a while: it was stopped, or its machine was suspended or paused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

MIN_SUSPENSION_S = 3.0
"""Shorter gaps are the scheduling of a busy machine."""


class ClockReadings(NamedTuple):
    """The clocks of this machine at one moment, in seconds.

    The monotonic clock continues while a process is stopped or frozen. The boot-time clock also continues while the
    machine sleeps, and the wall clock is set after a virtual machine was paused together with the other two.
    """

    monotonic_s: float
    boot_s: float
    wall_s: float


def read_clocks() -> ClockReadings:
    """The clocks now. Where there is no boot-time clock (it is Linux's), the monotonic one stands for it."""
    monotonic_s = time.monotonic()
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    boot_s = monotonic_s if boot_clock is None else time.clock_gettime(boot_clock)
    return ClockReadings(monotonic_s, boot_s, time.time())


def find_suspension_s(before: ClockReadings, after: ClockReadings, expected_s: float) -> float:
    """For how long this process did not run, by the clock that went furthest (pure).

    Args:
        before: The clocks before a wait.
        after: The clocks after it.
        expected_s: The longest time that the wait takes.

    Returns:
        Seconds; 0 for less than :data:`MIN_SUSPENSION_S`.
    """
    missing_s = max(later - earlier for earlier, later in zip(before, after, strict=True)) - expected_s
    return missing_s if missing_s >= MIN_SUSPENSION_S else 0.0


class SuspensionWatch:
    """Adds up for how long this process did not run, while its main thread does something else.

    Args:
        interval_s: How often a thread of its own looks at the clocks, in seconds.
        read: Reads the clocks.
    """

    def __init__(self, interval_s: float = 1.0, read: Callable[[], ClockReadings] = read_clocks) -> None:
        self.interval_s, self._read, self._last = interval_s, read, read()
        self._suspended_s = 0.0
        self._lock, self._stopped = threading.Lock(), threading.Event()

    @property
    def suspended_s(self) -> float:
        """The total until now."""
        with self._lock:
            now = self._read()
            self._suspended_s += find_suspension_s(self._last, now, self.interval_s)
            self._last = now
            return self._suspended_s

    def start(self) -> None:
        """Look at the clocks from now on."""
        self._last = self._read()
        threading.Thread(target=self._run, name="suspension-watch", daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.wait(self.interval_s):
            _ = self.suspended_s

    def stop(self) -> None:
        """Look no more; :attr:`suspended_s` must not be read afterwards."""
        self._stopped.set()


class RunningTime:
    """How long this process has run since it was made, without the times during which it was stopped.

    The monotonic clock alone tells: it continues while a process is stopped, and not while the machine sleeps.

    Args:
        interval_s: As of :class:`SuspensionWatch`.
        clock: The monotonic clock, in seconds.
    """

    def __init__(self, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began_s = clock, clock()
        self._watch = SuspensionWatch(interval_s, lambda: ClockReadings(clock(), clock(), clock()))

    def __enter__(self) -> RunningTime:
        self._watch.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._watch.stop()

    @property
    def seconds(self) -> float:
        """The time until now."""
        suspended_s = self._watch.suspended_s
        return self._clock() - self._began_s - suspended_s
