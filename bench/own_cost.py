"""What measuring costs: blocks of steps with timing and sampling on and off, alternating in the same processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bench.backends import Session
from bench.clock import time_steps, wait_for
from bench.records import OwnCost

PAIRS = 12
BLOCK_S = 0.04
LONGEST_STEP_S = 0.1
STEPS_AT_LEAST = 2


def measure_own_cost(
    watched: Callable[[], Any],
    plain: Callable[[], Any],
    session: Session,
    silence: Callable[[], AbstractContextManager[None]],
    step_s: float,
) -> OwnCost | None:
    """``watched``: the step as the window takes it; ``plain``: the work's own. ``step_s``: about a step, on all ranks.

    ``None`` where steps are so long that measuring would take longer than there is to find out. Within a pair the one
    that goes first alternates, so that a drift of the machine falls on both.
    """
    if step_s > LONGEST_STEP_S:
        return None
    steps = max(STEPS_AT_LEAST, math.ceil(BLOCK_S / max(step_s, 1e-9)))

    def with_it() -> float:
        session.barrier()
        began = time.perf_counter()
        time_steps(watched, steps, session.device)
        return time.perf_counter() - began

    def without() -> float:
        with silence():
            session.barrier()
            began = time.perf_counter()
            for _ in range(steps):
                plain()
            wait_for(session.device)
            return time.perf_counter() - began

    on: list[float] = []
    off: list[float] = []
    for pair in range(PAIRS):
        for block, times in ((with_it, on), (without, off)) if pair % 2 else ((without, off), (with_it, on)):
            times.append(block())
    return OwnCost(steps=steps, watched_s=tuple(on), unwatched_s=tuple(off))
