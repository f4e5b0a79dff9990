"""Decomposes the time of a step, in the processes that are measured, and by the backend's contract alone.

Blocks of ordinary steps alternate with blocks of steps without communication, all ranks at the same time. What a rank
does in the latter is its own time. What an ordinary step takes beyond the own time of the slowest rank is exposed
communication; what a rank's own time falls short of that is waiting. The parameters are restored after each block
without communication, so that the ranks stay equal.

Steps without communication are timed twice: whole, as the workload takes them, and part by part (data, forward pass,
backward pass, optimizer). What a whole step takes beyond its parts is unattributed: a step may do more than its parts,
and on a GPU each part is waited for. It is never counted as communication. A single rank communicates with no other, so
that its own time is that of an ordinary step.

A session that can't step without communication (:attr:`bench.plugins.backend.Session.no_sync_reason`) is not
decomposed: leaving out a part of its communication would make the exposed part too small.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from bench.plugins.backend import Session
from bench.plugins.workload import StepParts, Work
from bench.rank.clock import Clock, synchronize, time_steps

BLOCKS = 4
BLOCK_S = 0.1
MIN_STEPS, MAX_STEPS = 3, 200


class StepTimes(NamedTuple):
    """Raw times of one rank, in seconds; see :class:`bench.core.step_measures.PhaseTimes`."""

    together_s: tuple[float, ...]
    alone_s: dict[str, tuple[float, ...]]
    alone_step_s: tuple[float, ...] | None


def decompose(
    work: Work, session: Session, step_s: float, clock: Clock = time.perf_counter, every: int = 1
) -> StepTimes | None:
    """Raw times of all kinds of steps on this rank.

    Args:
        work: A built workload, after its window.
        session: The group of ranks.
        step_s: About how long a step takes on this rank, in seconds.
        clock: The clock, in seconds.
        every: How many whole steps are timed together; the means of such blocks are then among the raw times.

    Returns:
        ``None`` for work without parts, and for a session that can't step without communication.
    """
    parts = work.parts()
    if not parts or session.no_sync_reason is not None:
        return None
    slowest_s = session.largest(step_s)
    steps = max(MIN_STEPS, min(MAX_STEPS, math.ceil(BLOCK_S / max(slowest_s, 1e-9))))
    together: list[float] = []
    whole: list[float] = []
    by_part: list[dict[str, float]] = []
    for _ in range(BLOCKS):
        session.barrier()
        # The first step of a block finds the caches as the other kind left them.
        together += _time_after_first(work, steps, session.device, clock, every)
        saved = work.save()
        session.barrier()
        with session.no_sync():
            if session.world > 1:
                whole += _time_after_first(work, steps, session.device, clock, every)
                session.barrier()
            by_part += [time_parts(parts, session.device, clock) for _ in range(1 + steps)][1:]
        work.restore(saved)
    return StepTimes(
        together_s=tuple(together),
        alone_s={name: tuple(times[name] for times in by_part) for name in by_part[0]},
        alone_step_s=tuple(whole) if session.world > 1 else None,
    )


def _time_after_first(work: Work, steps: int, device: str, clock: Clock, every: int) -> list[float]:
    """The durations of some steps after one more, on a device as many of them together as are worth a mark."""
    if every == 1:
        return time_steps(work.step, 1 + steps, device, clock)[1:]
    work.step()
    return time_steps(work.step, -(-steps // every) * every, device, clock, every)


def time_parts(parts: StepParts, device: str, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Take one step part by part; the time of each name in seconds, which several parts may share."""
    times = {name: 0.0 for name, _ in parts}
    synchronize(device)
    before = clock()
    for name, part in parts:
        part()
        synchronize(device)
        after = clock()
        times[name] += after - before
        before = after
    return times
