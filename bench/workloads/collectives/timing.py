"""The time of one operation over a message, repeated: shared by the workloads that exchange and do not compute."""

from __future__ import annotations

import time
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
