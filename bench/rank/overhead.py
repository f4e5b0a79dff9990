"""What measuring costs: blocks of steps with timing and sampling on and off, alternating in the same processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bench.core.records import Overhead
from bench.plugins.backend import Session
from bench.rank.clock import synchronize, time_steps

BLOCK_PAIRS = 12
BLOCK_S = 0.04
MAX_STEP_S = 0.1
MIN_STEPS = 2


def measure_overhead(
    instrumented: Callable[[], Any],
    plain: Callable[[], Any],
    session: Session,
    pause_sampling: Callable[[], AbstractContextManager[None]],
    step_s: float,
) -> Overhead | None:
    """``watched``: the step as the window takes it; ``plain``: the work's own. ``step_s``: about a step, on all ranks.

    ``None`` where steps are so long that measuring would take longer than there is to find out. Within a pair the one
    that goes first alternates, so that a drift of the machine falls on both.
    """
    if step_s > MAX_STEP_S:
        return None
    steps = max(MIN_STEPS, math.ceil(BLOCK_S / max(step_s, 1e-9)))

    def time_instrumented() -> float:
        session.barrier()
        began = time.perf_counter()
        time_steps(instrumented, steps, session.device)
        return time.perf_counter() - began

    def time_plain() -> float:
        with pause_sampling():
            session.barrier()
            began = time.perf_counter()
            for _ in range(steps):
                plain()
            synchronize(session.device)
            return time.perf_counter() - began

    on: list[float] = []
    off: list[float] = []
    for pair in range(BLOCK_PAIRS):
        for block, times in (
            ((time_instrumented, on), (time_plain, off)) if pair % 2 else ((time_plain, off), (time_instrumented, on))
        ):
            times.append(block())
    return Overhead(steps=steps, watched_s=tuple(on), unwatched_s=tuple(off))
