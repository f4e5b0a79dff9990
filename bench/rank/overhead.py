"""Measures the overhead of measuring: blocks of steps with timing and sampling alternate with blocks without."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

from bench.core.step_measures import Overhead
from bench.plugins.backend import Session
from bench.rank.clock import synchronize
from bench.rank.measured_steps import MeasuredSteps

BLOCK_PAIRS, DEVICE_BLOCK_PAIRS = 12, 20
"""On a CPU, and on a device, where the cost is smaller and the host's noise is not."""
BLOCK_S = 0.04
MAX_STEP_S = 0.1
MIN_STEPS = 2
MIN_MARKS = 4
"""Where steps are marked in blocks: a window has one mark at its beginning, which counts little, and so it is here."""


class OverheadResult(NamedTuple):
    """The durations, or why they are missing."""

    durations: Overhead | None
    problem: str | None = None


def measure_overhead(
    measured: MeasuredSteps,
    plain: Callable[[], Any],
    session: Session,
    pause_sampling: Callable[[], AbstractContextManager[None]],
    step_s: float,
) -> OverheadResult:
    """Time pairs of blocks of steps, one with and one without the harness's own measuring.

    Which block of a pair comes first alternates, so that a drift of the machine affects both kinds.

    Args:
        measured: Takes steps as the measured window does.
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
    steps = steps_in_block(step_s, measured.every)

    def time_measured() -> float:
        session.barrier()
        synchronize(session.device)
        began = time.perf_counter()
        measured.time(steps)
        return time.perf_counter() - began

    def time_plain() -> float:
        with ExitStack() as pause:
            try:
                pause.enter_context(pause_sampling())
            except OSError as problem:
                problems.append(f"the sampler could not be paused: {problem}")
            session.barrier()
            synchronize(session.device)
            began = time.perf_counter()
            for _ in range(steps):
                plain()
            synchronize(session.device)
            return time.perf_counter() - began

    on: list[float] = []
    off: list[float] = []
    for pair in range(BLOCK_PAIRS if session.device == "cpu" else DEVICE_BLOCK_PAIRS):
        for block, times in (
            ((time_measured, on), (time_plain, off)) if pair % 2 else ((time_plain, off), (time_measured, on))
        ):
            times.append(block())
    if problems:
        return OverheadResult(None, problems[0])
    return OverheadResult(Overhead(steps=steps, watched_s=tuple(on), unwatched_s=tuple(off)))


def steps_in_block(step_s: float, every: int) -> int:
    """How many steps to take with and without measuring in turn (pure).

    Args:
        step_s: About how long a step takes, in seconds.
        every: How many of them are timed together.
    """
    steps = max(MIN_STEPS, math.ceil(BLOCK_S / max(step_s, 1e-9)))
    return steps if every == 1 else -(-max(steps, MIN_MARKS * every) // every) * every
