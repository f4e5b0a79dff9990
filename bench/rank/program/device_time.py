"""The ends of steps on a CUDA device, by events that are made before the first step. Nothing waits for the device."""

from __future__ import annotations

import sys
from array import array
from typing import Any, NamedTuple

from bench.rank.cuda_events import cost_on
from bench.rank.program.marks import CAPACITY

EVENTS = 1024
"""An event is read when it is needed again, so many marks later: the device has long passed it."""


class DeviceBlocks(NamedTuple):
    """How long steps took on the device: the mean of each block of so many, of which the last may have fewer."""

    step_s: list[float]
    ends: list[int]
    """The numbers of the steps that end the blocks."""


class DeviceMarks:
    """Events at the ends of steps, on the stream that is current there: after each step, or some of them.

    Args:
        device: The index of the CUDA device.
        cuda: ``torch.cuda``, by default that of the program.
        mark_cost_s: What an event takes in a step; ``None``: it is measured.
    """

    def __init__(self, device: int, cuda: Any = None, mark_cost_s: float | None = None) -> None:
        self.device = f"cuda:{device}"
        self._cuda, self._number = cuda or sys.modules["torch"].cuda, device
        self._events = [self._cuda.Event(enable_timing=True) for _ in range(EVENTS)]
        self._after_step = array("q", bytes(8 * CAPACITY))
        """The step that a mark ends, by the number of the mark."""
        self._since_s = array("d", bytes(8 * CAPACITY))
        """The time since the mark before."""
        self._first = self._marks = self._read = 0
        self._origin, self._last, self._every = 0, 0, 1
        self.mark_cost_s = 0.0
        if not self._cuda.is_current_stream_capturing():
            stream = self._cuda.current_stream(device)
            for event in self._events:
                # CUDA makes an event when it is first recorded.
                event.record(stream)
            self.mark_cost_s = _cost_on(self.device) if mark_cost_s is None else mark_cost_s

    def mark_every(self, steps: int, origin: int, last: int) -> None:
        """From now on mark the ends of so many steps together, counted from step ``origin``, and of step ``last``."""
        self._every, self._origin, self._last = max(1, steps), origin, last

    def step_ended(self, number: int) -> None:
        """Record the event of a step's end; steps come in order, without gaps."""
        if self._every > 1 and number > self._origin and (number - self._origin) % self._every and number != self._last:
            return
        if self._cuda.is_current_stream_capturing():
            # The hook of an optimizer in a CUDA graph is called when the graph is made, and not when it runs.
            self._first = 0
            return
        if not self._first:
            self._first, self._marks, self._read = number, 0, 1
        self._marks += 1
        # That of EVENTS marks before is overwritten: its distance to the next one is taken before.
        if self._marks - self._read >= EVENTS:
            self._take(self._read + 1)
        self._events[self._marks % EVENTS].record(self._cuda.current_stream(self._number))
        self._after_step[self._marks % CAPACITY] = number

    def blocks(self, first: int, last: int) -> DeviceBlocks | None:
        """The steps after step ``first`` up to step ``last``, in blocks as they are marked; ``None`` where an end was
        not marked. Waits for the last event."""
        if not self._first:
            return None
        self._events[self._marks % EVENTS].synchronize()
        while self._read < self._marks:
            self._take(self._read + 1)
        known = range(max(1, self._marks - CAPACITY + 1), self._marks + 1)
        marks = [mark for mark in known if first <= self._after_step[mark % CAPACITY] <= last]
        steps = [self._after_step[mark % CAPACITY] for mark in marks]
        ends = [*range(first + self._every, last, self._every), last]
        if not {first, *ends} <= set(steps):
            return None
        blocks, begun, elapsed_s = DeviceBlocks([], ends), first, 0.0
        for mark, step in zip(marks[1:], steps[1:], strict=True):
            elapsed_s += self._since_s[mark % CAPACITY]
            # Before it was known how many steps make a block, there were marks in between.
            if step == ends[len(blocks.step_s)]:
                blocks.step_s.append(elapsed_s / (step - begun))
                begun, elapsed_s = step, 0.0
        return blocks

    @property
    def every(self) -> int:
        """The steps in a block."""
        return self._every

    def _take(self, mark: int) -> None:
        before, after = self._events[(mark - 1) % EVENTS], self._events[mark % EVENTS]
        self._since_s[mark % CAPACITY] = before.elapsed_time(after) / 1e3
        self._read = mark


def _cost_on(device: str) -> float:
    """What a mark takes; 0 where that can't be measured, and every step is marked: the program's own steps go on."""
    try:
        return cost_on(device)
    except RuntimeError:
        return 0.0


def device_of(optimizer: Any) -> int | None:
    """The index of the CUDA device that an optimizer's parameters are on; ``None``: they are elsewhere."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if getattr(parameter, "is_cuda", False):
                return int(parameter.get_device())
    return None
