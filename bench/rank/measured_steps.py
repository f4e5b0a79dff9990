"""Steps as the measured window takes them: timed, counted for others to see, and their results kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank.clock import Timing, time_blocks, time_steps
from bench.rank.context import RankContext
from bench.rank.finite import StepResults


class MeasuredSteps:
    """Times steps in blocks.

    Args:
        step: Takes one step.
        every: The steps in a block.
        session: The group of ranks.
        context: What is to be known of this process.
    """

    def __init__(self, step: Callable[[], Any], every: int, session: Session, context: RankContext) -> None:
        self.every = every
        self._device, self._clock, self._events = session.device, context.clock, context.events
        progress = context.progress
        # In blocks, counting every step would take longer than marking their ends.
        self._step = progress.count_steps(step) if every == 1 else step
        self._begin_block = None if every == 1 else progress.begin_steps

    def time(self, count: int) -> Timing:
        """Take so many steps."""
        return time_blocks(self._step, count, self._device, self._clock, self.every, self._begin_block, self._events)


def after_the_window(
    work: Work, every: int, session: Session, context: RankContext, multiple: int = 1
) -> MeasuredSteps:
    """Steps as those of the window were, of the same work. It takes two of them, on every rank.

    Args:
        work: The work.
        every: The steps in a block.
        session: The group of ranks.
        context: What is to be known of this process.
        multiple: How many times to time and count each step and to keep its result.
    """
    results = StepResults(work)
    plain = results.keep_after(work.step)
    for _ in range(2):
        # Two results tell whether steps overwrite them, as the warm-up did.
        plain()
    step = results.keep_after(work.step, every)
    if multiple == 1:
        return MeasuredSteps(step, every, session, context)
    again = context.progress.count_steps(results.keep_after(lambda: None, every))

    def step_with_repeated_measuring() -> None:
        step()
        time_steps(again, multiple - 1, clock=context.clock)

    return MeasuredSteps(step_with_repeated_measuring, every, session, context)
