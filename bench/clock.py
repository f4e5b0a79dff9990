"""How long steps take: the only clock that a result comes from."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any


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


def _time_on_cuda(step: Callable[[], Any], count: int) -> list[float]:
    import torch

    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in itertools.pairwise(marks)]
