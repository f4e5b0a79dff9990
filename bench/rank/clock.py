"""Measures how long steps take. All results come from this clock."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

BATCHES = 10
STUDENT_T_9 = 2.262
"""The 97.5 % quantile of Student's t with 9 degrees of freedom."""

Clock = Callable[[], float]
"""The time in seconds, from any origin."""


def time_steps(
    step: Callable[[], Any], count: int, device: str = "cpu", clock: Clock = time.perf_counter
) -> list[float]:
    """The durations of ``count`` steps, in seconds, without gaps: they add up to the whole window.

    Args:
        step: Takes one step.
        count: The number of steps.
        device: Where the steps compute. On CUDA, events of the device mark them, so that no step waits for the device.
        clock: The clock, on a CPU.
    """
    if device != "cpu":
        return _time_on_cuda(step, count)
    times = []
    before = clock()
    for _ in range(count):
        step()
        after = clock()
        times.append(after - before)
        before = after
    return times


def synchronize(device: str) -> None:
    """Wait until the device has completed its work; on a CPU there is nothing to wait for."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def half_width(times: Sequence[float]) -> float:
    """The half-width of the 95 % interval of the mean step relative to the mean, by the method of batch means.

    Neighbouring steps are not independent, the means of ten long batches nearly are (Law and Kelton, Simulation
    Modeling and Analysis, §9.5). It is infinite for fewer than two steps in each batch.
    """
    batch_length = len(times) // BATCHES
    if batch_length < 2:
        return math.inf
    means = [fmean(times[number * batch_length : (number + 1) * batch_length]) for number in range(BATCHES)]
    return STUDENT_T_9 * stdev(means) / math.sqrt(BATCHES) / fmean(means)


def _time_on_cuda(step: Callable[[], Any], count: int) -> list[float]:
    import torch

    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    torch.cuda.synchronize()
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in itertools.pairwise(events)]
