"""Measures how long steps take. All results come from this clock.

On a CPU a clock is read at the end of every step, which takes a tenth of a microsecond. On a CUDA device an event is
recorded, which may take as long as several kernels: there the ends of blocks of steps are marked, of as many steps as
keep the cost below :data:`BUDGET` (:func:`steps_per_mark`). The mean of a block is exact.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from bench.core.bounds import MAX_STEPS_PER_ENTRY
from bench.rank.cuda_events import CudaEvents, DeviceEvents

BATCHES = 10
STUDENT_T_9 = 2.262
"""The 97.5 % quantile of Student's t with 9 degrees of freedom."""
BUDGET = 0.0025
"""The share of a step that marking may take: half of what all measuring may, since it costs more in some steps than it
did where it was measured."""

Clock = Callable[[], float]
"""The time in seconds, from any origin."""


class Timing(NamedTuple):
    """How long steps took, in seconds: the mean of each block of steps."""

    step_s: list[float]
    host_step_s: list[float] | None = None
    """How long the host took to enqueue a step of the block; ``None``: it computes the steps itself."""

    def followed_by(self, later: Timing) -> Timing:
        """Both, of steps taken one after the other."""
        hosts = [] if self.host_step_s is None or later.host_step_s is None else self.host_step_s + later.host_step_s
        return Timing(self.step_s + later.step_s, hosts or None)


def time_steps(
    step: Callable[[], Any],
    count: int,
    device: str = "cpu",
    clock: Clock = time.perf_counter,
    every: int = 1,
    events: DeviceEvents | None = None,
) -> list[float]:
    """The durations of ``count`` steps in seconds, without gaps; see :func:`time_blocks`."""
    return time_blocks(step, count, device, clock, every, events=events).step_s


def time_blocks(
    step: Callable[[], Any],
    count: int,
    device: str = "cpu",
    clock: Clock = time.perf_counter,
    every: int = 1,
    begin_block: Callable[[int], Any] | None = None,
    events: DeviceEvents | None = None,
) -> Timing:
    """Time steps in blocks without gaps: the durations of all steps add up to the whole time.

    Args:
        step: Takes one step.
        count: The number of steps.
        device: Where the steps compute. On CUDA, events of the device mark the blocks, so that nothing waits for it.
        clock: The host's clock.
        every: The steps in a block; the last one has the rest.
        begin_block: Called with its number of steps before each block.
        events: The events; by default those of the device.
    """
    if device == "cpu" and every == 1 and begin_block is None:
        return Timing(_time_each(step, count, clock))
    sizes = block_sizes(count, every)
    marks = (events or CudaEvents.of(device)) if device != "cpu" else None
    if marks is not None:
        marks.prepare(len(sizes) + 1)
        marks.record(0)
    moments = [clock()] * (len(sizes) + 1)
    for number, size in enumerate(sizes, 1):
        if begin_block is not None:
            begin_block(size)
        for _ in itertools.repeat(None, size):
            step()
        if marks is not None:
            marks.record(number)
        moments[number] = clock()
    host_s = [(after - before) / size for (before, after), size in zip(itertools.pairwise(moments), sizes, strict=True)]
    if marks is None:
        return Timing(host_s)
    return Timing([time_s / size for time_s, size in zip(marks.durations_s(len(sizes)), sizes, strict=True)], host_s)


def block_sizes(count: int, every: int) -> list[int]:
    """The numbers of steps in the blocks of ``count`` steps (pure)."""
    whole, rest = divmod(count, every)
    return [every] * whole + [rest] * (rest > 0)


def steps_per_mark(cost_s: float, step_s: float, budget: float = BUDGET) -> int:
    """How many steps to take from one mark to the next (pure).

    Args:
        cost_s: What one mark takes.
        step_s: How long a step takes.
        budget: The share of the steps' time that marks may take.
    """
    return max(1, min(MAX_STEPS_PER_ENTRY, math.ceil(cost_s / (budget * max(step_s, 1e-9)))))


def synchronize(device: str) -> None:
    """Wait until the device has completed its work; on a CPU there is nothing to wait for."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def half_width(times: Sequence[float], every: int = 1) -> float:
    """The half-width of the 95 % interval of the mean step relative to the mean, by the method of batch means.

    Neighbouring steps are not independent, the means of ten long batches nearly are (Law and Kelton, Simulation
    Modeling and Analysis, §9.5). It is infinite for fewer than two steps in each batch.

    Args:
        times: Durations of steps, or the means of blocks of them.
        every: The steps in a block.
    """
    batch_length = len(times) // BATCHES
    if batch_length * every < 2:
        return math.inf
    means = [fmean(times[number * batch_length : (number + 1) * batch_length]) for number in range(BATCHES)]
    return STUDENT_T_9 * stdev(means) / math.sqrt(BATCHES) / fmean(means)


def _time_each(step: Callable[[], Any], count: int, clock: Clock) -> list[float]:
    times = []
    before = clock()
    for _ in range(count):
        step()
        after = clock()
        times.append(after - before)
        before = after
    return times
