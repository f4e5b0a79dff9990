"""Marks moments of a CUDA device by events, and measures what a mark costs there."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

PAIRS = 9
LAUNCHES = 40
"""Small kernels in a block of the calibration, which takes some ten milliseconds in all."""


class DeviceEvents(Protocol):
    """Numbered marks in the order of a device's work."""

    def prepare(self, count: int) -> None:
        """Make what marks 0 to ``count - 1`` need, and wait for the device: recording them allocates nothing."""

    def record(self, number: int) -> None:
        """Mark the moment at which the device has done all that it was given so far. Does not wait for it."""

    def durations_s(self, last: int) -> list[float]:
        """The times between neighbouring marks up to ``last``, in seconds. Waits for the device."""


class CudaEvents:
    """Events on the stream that is current when they are prepared. One pool a process: it grows, and is used again.

    Args:
        device: Such as ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._torch: Any = torch
        self.device = torch.device(device)
        self._events: list[Any] = []
        self._stream: Any = None

    @staticmethod
    @functools.cache
    def of(device: str) -> CudaEvents:
        """The pool of a device."""
        return CudaEvents(device)

    def prepare(self, count: int) -> None:
        self._stream = self._torch.cuda.current_stream(self.device)
        for _ in range(count - len(self._events)):
            event = self._torch.cuda.Event(enable_timing=True)
            # CUDA makes an event when it is first recorded.
            event.record(self._stream)
            self._events.append(event)
        self._torch.cuda.synchronize(self.device)

    def record(self, number: int) -> None:
        # Without a stream it would look for the current one.
        self._events[number].record(self._stream)

    def durations_s(self, last: int) -> list[float]:
        self._events[last].synchronize()
        pairs = itertools.pairwise(self._events[: last + 1])
        return [before.elapsed_time(after) / 1e3 for before, after in pairs]


def mark_cost_s(
    events: DeviceEvents,
    launch: Callable[[], Any],
    synchronize: Callable[[], Any],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """What a mark and a look at the clock take among short kernels, in seconds.

    Blocks of kernels with a mark after each alternate with blocks of kernels alone; the median of the differences
    counts. It is not below what the host takes for the marks themselves.

    Args:
        events: The marks.
        launch: Enqueues a short kernel.
        synchronize: Waits for the device.
        clock: The host's clock, in seconds.
    """

    def block_s(*, marked: bool) -> float:
        synchronize()
        before = clock()
        for number in range(LAUNCHES):
            launch()
            if marked:
                events.record(number)
                clock()
        synchronize()
        return clock() - before

    events.prepare(LAUNCHES)
    block_s(marked=True)
    differences = []
    for pair in range(PAIRS):
        times = {marked: block_s(marked=marked) for marked in (bool(pair % 2), not pair % 2)}
        differences.append((times[True] - times[False]) / LAUNCHES)
    synchronize()
    before = clock()
    for number in range(LAUNCHES):
        events.record(number)
    return max(median(differences), (clock() - before) / LAUNCHES)


@functools.cache
def cost_on(device: str) -> float:
    """:func:`mark_cost_s` of this process on a device, measured once; 0 on a CPU."""
    if device == "cpu":
        return 0.0
    import torch

    value = torch.zeros(1, device=device)
    events = CudaEvents.of(device)
    return mark_cost_s(events, lambda: value.add_(1.0), lambda: torch.cuda.synchronize(device))
