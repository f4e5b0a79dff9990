"""A clock for tests: time passes only when it is told to."""

from __future__ import annotations


class FakeClock:
    """The time in seconds: call it to read it, :meth:`sleep` to let time pass."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
