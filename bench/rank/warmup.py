"""Steps before the measured window, until step times have settled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.plugins.backend import Session
from bench.rank.clock import time_steps

BLOCK_S = 0.05
MAX_STEPS_PER_BLOCK = 200
SETTLED_TOLERANCE = 0.1
MAX_WARMUP_S = 2.0
MAX_BLOCKS = 12


class WarmupResult(NamedTuple):
    """How the warm-up ended: the same on every rank."""

    steps: int
    settled: bool
    step_s: float
    """The slowest rank's median step of the last block."""


def warm_up(
    step: Callable[[], Any], session: Session, min_warmup_steps: int, max_s: float = MAX_WARMUP_S
) -> WarmupResult:
    """Take steps in blocks until two blocks in a row agree, or the time for it is spent.

    Each block's median is the slowest rank's, known to all ranks, so that all of them stop after the same step.
    """
    steps, medians, spent_s = 1, [session.largest(time_steps(step, 1, session.device)[0])], 0.0
    while True:
        block = max(1, min(MAX_STEPS_PER_BLOCK, math.ceil(BLOCK_S / max(medians[-1], 1e-9))))
        medians.append(session.largest(median(time_steps(step, block, session.device))))
        steps += block
        spent_s += block * medians[-1]
        # The very first step loads and allocates: it says nothing about the rest.
        done = has_settled(medians[1:] if block > 1 else medians)
        if done and steps >= min_warmup_steps:
            return WarmupResult(steps, True, medians[-1])
        if spent_s > max_s or len(medians) > MAX_BLOCKS:
            return WarmupResult(steps, done, medians[-1])


def has_settled(medians: Sequence[float]) -> bool:
    """Whether the last two blocks took the same time, within a tenth (pure)."""
    if len(medians) < 2:
        return False
    return abs(medians[-1] / max(medians[-2], 1e-12) - 1) <= SETTLED_TOLERANCE
