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
from bench.telemetry.sampler import INTERVAL_S

BLOCK_PAIRS, DEVICE_BLOCK_PAIRS = 10, 20
"""On a CPU, and on a device, where the cost is smaller and the host's noise is not."""
BLOCK_S = 0.04
MAX_STEP_S = 0.1
MIN_STEPS = 2
MIN_MARKS = 4
"""Where steps are marked in blocks: a window has one mark at its beginning, which counts little, and so it is here."""
MAX_MULTIPLE = 10


class OverheadResult(NamedTuple):
    """The durations, or why they are missing."""

    durations: Overhead | None
    problem: str | None = None


class SamplerControl(NamedTuple):
    """Contexts in which the sampler of the node does not sample as usual. Where one fails, it raises ``OSError``."""

    pause: Callable[[], AbstractContextManager[None]]
    """It takes no samples."""
    hasten: Callable[[int], AbstractContextManager[bool]]
    """It takes so many times as many: at once where the value is true, else from its next tick on."""


def measuring_multiple(step_s: float, device: str) -> int:
    """How many times as much as usual to measure in the blocks with measuring (pure).

    On a CPU, blocks of steps differ by some 20 % from each other, and measuring costs a few thousandths: ten times as
    much shows in a tenth of the blocks. Ticks stay at least a step apart: two in one step would delay two ranks at
    once, which the slowest rank shows once. On a device steps are steady, and marks are few.

    Args:
        step_s: About how long a step takes, in seconds, the same on all ranks.
        device: The session's device.
    """
    return max(1, min(MAX_MULTIPLE, int(INTERVAL_S / max(step_s, 1e-9)))) if device == "cpu" else 1


def measure_overhead(
    measured: MeasuredSteps,
    plain: Callable[[], Any],
    session: Session,
    sampler: SamplerControl,
    step_s: float,
    multiple: int = 1,
) -> OverheadResult:
    """Time pairs of blocks of steps, one with and one without the harness's own measuring.

    Which block of a pair comes first alternates, so that a drift of the machine affects both kinds.

    Args:
        measured: Takes steps as the measured window does, measured ``multiple`` times.
        plain: Takes a step of the work alone.
        session: The group of ranks.
        sampler: Pauses and hastens the sampler of the node.
        step_s: About how long a step takes, in seconds, the same on all ranks.
        multiple: See :func:`measuring_multiple`.

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
                pause.enter_context(sampler.pause())
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
    with ExitStack() as haste:
        if multiple > 1:
            try:
                at_once = haste.enter_context(sampler.hasten(multiple))
            except OSError as problem:
                problems.append(f"the sampler could not be hastened: {problem}")
                at_once = True
            if not at_once:
                time.sleep(INTERVAL_S)
        for pair in range(BLOCK_PAIRS if session.device == "cpu" else DEVICE_BLOCK_PAIRS):
            for block, times in (
                ((time_measured, on), (time_plain, off)) if pair % 2 else ((time_plain, off), (time_measured, on))
            ):
                times.append(block())
    if problems:
        return OverheadResult(None, problems[0])
    return OverheadResult(Overhead(steps=steps, watched_s=tuple(on), unwatched_s=tuple(off), multiple=multiple))


def steps_in_block(step_s: float, every: int) -> int:
    """How many steps to take with and without measuring in turn (pure).

    Args:
        step_s: About how long a step takes, in seconds.
        every: How many of them are timed together.
    """
    steps = max(MIN_STEPS, math.ceil(BLOCK_S / max(step_s, 1e-9)))
    return steps if every == 1 else -(-max(steps, MIN_MARKS * every) // every) * every
