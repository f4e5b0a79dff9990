"""Decomposes the time of a step, in the processes that are measured, and by the backend's contract alone.

Blocks of ordinary steps alternate with blocks of steps without communication, all ranks at the same time. What a rank
does in the latter is its own time: data, forward pass, backward pass, optimizer. What an ordinary step takes beyond the
own time of the slowest rank is exposed communication; what a rank's own time falls short of that is waiting. The
parameters are restored after each block without communication, so that the ranks stay equal.

A session that can't step without communication (:attr:`bench.plugins.backend.Session.no_sync_reason`) is not
decomposed: leaving out a part of its communication would make the exposed part too small.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank.clock import synchronize, time_steps

BLOCKS = 4
BLOCK_S = 0.12
MIN_STEPS, MAX_STEPS = 3, 200


StepTimes = tuple[tuple[float, ...], dict[str, tuple[float, ...]]]
"""Ordinary steps, and the parts of steps without exchange by name; see :class:`bench.core.records.PhaseTimes`."""


def decompose(work: Work, session: Session, step_s: float) -> StepTimes | None:
    """Raw times of both kinds of steps on this rank, in seconds.

    Args:
        work: A built workload, after its window.
        session: The group of ranks.
        step_s: About how long a step takes on this rank, in seconds.

    Returns:
        ``None`` for work without parts, and for a session that can't step without communication.
    """
    parts = work.parts()
    if not parts or session.no_sync_reason is not None:
        return None
    slowest_s = session.largest(step_s)
    steps = max(MIN_STEPS, min(MAX_STEPS, math.ceil(BLOCK_S / max(slowest_s, 1e-9))))
    together: list[float] = []
    alone: dict[str, list[float]] = {name: [] for name, _ in parts}
    for _ in range(BLOCKS):
        session.barrier()
        # The first step of a block finds the caches as the other kind left them.
        together += time_steps(work.step, 1 + steps, session.device)[1:]
        saved = work.save()
        session.barrier()
        with session.no_sync():
            for _ in range(1 + steps):
                _time_parts(parts, alone, session.device)
        for times in alone.values():
            del times[-1 - steps]
        work.restore(saved)
    return tuple(together), {name: tuple(times) for name, times in alone.items()}


def _time_parts(
    parts: tuple[tuple[str, Callable[[], None]], ...], times_by_part: dict[str, list[float]], device: str
) -> None:
    before = _now(device)
    for name, part in parts:
        part()
        after = _now(device)
        times_by_part[name].append(after - before)
        before = after


def _now(device: str) -> float:
    synchronize(device)
    return time.perf_counter()
