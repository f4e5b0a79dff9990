"""The time of one operation over a message, repeated: shared by the workloads that exchange and do not compute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bench.plugins.backend import Session

SECONDS_PER_SIZE = 0.15
MIN_REPETITIONS, MAX_REPETITIONS = 5, 200


def time_operation(perform: Callable[[], Any], session: Session) -> tuple[float, ...]:
    """The durations of an operation on this rank, in seconds: as many as fill :data:`SECONDS_PER_SIZE`, within limits.

    Args:
        perform: Performs the operation once. On a GPU the time ends when the device has done its part.
        session: The ranks, which all call this at the same time and repeat the operation equally often.
    """
    time_once = timed_call(perform, session.device)
    session.barrier()
    first = time_once()
    second = session.largest(min(first, time_once()))
    count = int(min(MAX_REPETITIONS, max(MIN_REPETITIONS, SECONDS_PER_SIZE / max(second, 1e-9))))
    session.barrier()
    return tuple(time_once() for _ in range(count))


class LastSteps:
    """Takes steps, of which each is the operation over the largest message, and keeps how long the last ones took.

    Where a message takes long, these are what :func:`time_operation` would measure anew: as many of the same operation.

    Args:
        session: The ranks, which take the same steps.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._times_s: deque[float] = deque(maxlen=MIN_REPETITIONS)

    def take(self, perform: Callable[[], Any]) -> None:
        """Take a step. On a device it ends later than ``perform`` returns, and is not timed."""
        if self.session.device != "cpu":
            perform()
            return
        began_s = time.perf_counter()
        perform()
        self._times_s.append(time.perf_counter() - began_s)

    def times_s(self) -> tuple[float, ...] | None:
        """The durations of the last steps on this rank, in seconds; ``None``, on all ranks alike, where more of them
        fit into :data:`SECONDS_PER_SIZE`, or there were too few. All ranks call this at the same time."""
        if len(self._times_s) < MIN_REPETITIONS or self.session.largest(sum(self._times_s)) < SECONDS_PER_SIZE:
            return None
        return tuple(self._times_s)


def timed_call(perform: Callable[[], Any], device: str) -> Callable[[], float]:
    """A function that performs an operation once and returns its duration in seconds."""
    if device != "cpu":
        return _timed_on_device(perform)

    def time_once() -> float:
        began = time.perf_counter()
        perform()
        return time.perf_counter() - began

    return time_once


def _timed_on_device(perform: Callable[[], Any]) -> Callable[[], float]:
    import torch

    def time_once() -> float:
        began = time.perf_counter()
        perform()
        torch.cuda.synchronize()
        return time.perf_counter() - began

    return time_once
