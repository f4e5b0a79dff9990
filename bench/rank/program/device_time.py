"""The ends of steps on a CUDA device, by events that are made before the first step. Nothing waits for the device."""

from __future__ import annotations

import sys
from array import array
from typing import Any

from bench.rank.program.marks import CAPACITY

EVENTS = 1024
"""An event is read when it is needed again, so many steps later: the device has long passed it."""


class DeviceMarks:
    """One event at the end of each step, on the stream that is current there.

    Args:
        device: The index of the CUDA device.
    """

    def __init__(self, device: int) -> None:
        torch: Any = sys.modules["torch"]
        self.device = f"cuda:{device}"
        self._torch, self._number = torch, device
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(EVENTS)]
        self._step_s = array("d", bytes(8 * CAPACITY))
        self._first = self._read = self._last = 0

    def step_ended(self, number: int) -> None:
        """Record the event of a mark; marks come in order, without gaps."""
        if self._torch.cuda.is_current_stream_capturing():
            # The hook of an optimizer in a CUDA graph is called when the graph is made, and not when it runs.
            self._first = 0
            return
        # That of EVENTS steps before is overwritten: its distance to the next one is taken before.
        if self._first and number - self._read >= EVENTS:
            self._take(self._read + 1)
        if not self._first:
            self._first = self._read = number
        self._events[number % EVENTS].record(self._torch.cuda.current_stream(self._number))
        self._last = number

    def durations_s(self, first: int, last: int) -> list[float] | None:
        """The durations of the steps between two marks, in seconds; ``None`` where there was no event for one of them.
        Waits for the last event."""
        if not self._first or first < self._first or last > self._last:
            return None
        self._events[last % EVENTS].synchronize()
        while self._read < last:
            self._take(self._read + 1)
        return [self._step_s[number % CAPACITY] for number in range(first + 1, last + 1)]

    def _take(self, number: int) -> None:
        before, after = self._events[(number - 1) % EVENTS], self._events[number % EVENTS]
        self._step_s[number % CAPACITY] = before.elapsed_time(after) / 1e3
        self._read = number


def device_of(optimizer: Any) -> int | None:
    """The index of the CUDA device that an optimizer's parameters are on; ``None``: they are elsewhere."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if getattr(parameter, "is_cuda", False):
                return int(parameter.get_device())
    return None
