"""How long steps take: the only clock that a result comes from."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

BATCHES = 10
STUDENT_T_9 = 2.262


def time_steps(step: Callable[[], Any], count: int, device: str = "cpu") -> list[float]:
    """The durations of ``count`` steps, in seconds, end to end: they add up to the whole window.

    On CUDA the device's own events mark the steps, so that nothing waits for the device in between.
    """
    if device != "cpu":
        return _time_on_cuda(step, count)
    clock = time.perf_counter
    times = []
    before = clock()
    for _ in range(count):
        step()
        after = clock()
        times.append(after - before)
        before = after
    return times


def synchronize(device: str) -> None:
    """Return when the device has done what it was given; at once on a CPU."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def half_width(times: Sequence[float]) -> float:
    """Half the 95 % interval of the mean step, as a share of it, from the means of ten batches of neighbouring steps.

    Neighbours are not independent, long batches nearly are (Law and Kelton, Simulation Modeling and Analysis, §9.5).
    Endless for fewer than two steps a batch.
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
