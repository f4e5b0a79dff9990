"""Measures the overhead of measuring: blocks of steps with timing and sampling alternate with blocks without."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

from bench.core.records import Overhead
from bench.plugins.backend import Session
from bench.rank.clock import synchronize, time_steps

BLOCK_PAIRS = 12
BLOCK_S = 0.04
MAX_STEP_S = 0.1
MIN_STEPS = 2


class OverheadResult(NamedTuple):
    """The durations, or why they are missing."""

    durations: Overhead | None
    problem: str | None = None


def measure_overhead(
    instrumented: Callable[[], Any],
    plain: Callable[[], Any],
    session: Session,
    pause_sampling: Callable[[], AbstractContextManager[None]],
    step_s: float,
) -> OverheadResult:
    """Time pairs of blocks of steps, one with and one without the harness's own measuring.

    Which block of a pair comes first alternates, so that a drift of the machine affects both kinds.

    Args:
        instrumented: Takes a step as in the measured window.
        plain: Takes a step of the work alone.
        session: The group of ranks.
        pause_sampling: A context in which the sampler of the node takes no samples; it raises ``OSError`` where that
            does not pause.
        step_s: About how long a step takes, in seconds, the same on all ranks.

    Returns:
        The durations; or none, and the problem: the ranks have taken the same steps nevertheless. Neither where steps
        take so long that their overhead is not worth the time to measure it.
    """
    if step_s > MAX_STEP_S:
        return OverheadResult(None)
    problems: list[str] = []
    steps = max(MIN_STEPS, math.ceil(BLOCK_S / max(step_s, 1e-9)))

    def time_instrumented() -> float:
        session.barrier()
        began = time.perf_counter()
        time_steps(instrumented, steps, session.device)
        return time.perf_counter() - began

    def time_plain() -> float:
        with ExitStack() as pause:
            try:
                pause.enter_context(pause_sampling())
            except OSError as problem:
                problems.append(f"the sampler could not be paused: {problem}")
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
    if problems:
        return OverheadResult(None, problems[0])
    return OverheadResult(Overhead(steps=steps, watched_s=tuple(on), unwatched_s=tuple(off)))
