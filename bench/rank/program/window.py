"""Where the measured window of a program begins and ends: decided from the ends of its steps alone (pure).

As for this project's own work (:mod:`bench.rank.loop`): the warm-up ends when the medians of two consecutive blocks of
steps agree, the window holds as many steps as fill its time, and it is extended where it is not precise enough.
"""

from __future__ import annotations

import math
from statistics import median
from typing import NamedTuple

from bench.core.case import Case
from bench.rank.clock import half_width, steps_per_mark
from bench.rank.loop import (
    MAX_BLOCKS,
    MAX_STEPS_PER_BLOCK,
    MAX_STRETCH,
    MAX_WARMUP_S,
    WARMUP_BLOCK_S,
    has_settled,
    whole_blocks,
)
from bench.rank.program.marks import Marks

MIN_WARMUP_STEPS = 4
GIVEN_WARMUP_STEPS = 10
"""The warm-up of a window whose number of steps is given: the ranks then need not agree on it while they run."""
MIN_STEPS, MAX_STEPS = 10, 20_000
MIN_PRINTED = 2
"""How many values of its metric a program prints in the window at least, unless it takes ten times as long."""
MAX_PRINT_STRETCH = 10
LOOKAHEAD_STEPS = 2
"""How many steps after the decision the ranks of a node are stopped: none of them is that far ahead of another one."""


class Cut(NamedTuple):
    """The window: the steps after mark ``first`` up to mark ``last``."""

    first: int
    last: int


def given_cut(case: Case) -> Cut | None:
    """The window of a case whose number of steps is given; ``None``: it depends on how long they take."""
    if case.steps is None:
        return None
    # Mark 1 ends the first step: nothing is known of when that began.
    first = max(1, case.warmup) if case.warmup is not None else GIVEN_WARMUP_STEPS
    return Cut(first, first + case.steps)


def whole_cut(case: Case, steps: int, every: int = 1) -> Cut | None:
    """The window of a program that came to its own end after some steps; ``None``: it took too few.

    It is as many of its steps as are given, else all after the warm-up, of a long program the last :data:`MAX_STEPS`;
    from and to steps whose number ``every`` divides, as far as there are so many.
    """
    if (cut := given_cut(case)) is not None:
        return cut if cut.last <= steps else None
    given = max(1, case.warmup) if case.warmup is not None else min(GIVEN_WARMUP_STEPS, steps // 2)
    first = max(given, 1, steps - MAX_STEPS)
    marked = Cut(-(-first // every) * every, steps // every * every)
    if marked.last > marked.first:
        return marked
    return Cut(first, steps) if steps > first else None


class WindowRule:
    """Decides on rank 0, mark by mark.

    Args:
        case: A case whose number of steps is not given.
        needs_printed: Whether the window has to hold printed values.
    """

    def __init__(self, case: Case, *, needs_printed: bool = False) -> None:
        self.case, self.needs_printed = case, needs_printed
        self.look_at = 1 if case.warmup is None else max(1, case.warmup)
        """The number of the mark at which :meth:`look` is called next."""
        self.first: int | None = None
        self.settled: bool | None = None
        """Whether step times had settled when the window began; ``None``: the number of warm-up steps was given."""
        self.mark_cost_s = 0.0
        """What marking the end of a step takes on this rank's device."""
        self.every = 1
        """How many steps are marked together in the window, whose length is a multiple of it."""
        self._block_from = 0
        self._medians: list[float] = []
        self._spent_s = 0.0
        self._steps = 0

    def look(self, marks: Marks, printed: int = 0) -> Cut | None:
        """The window once it is complete; ``None`` before that.

        Args:
            marks: The marks up to :attr:`look_at` at least.
            printed: How many values of the metric were printed since the warm-up ended.
        """
        if marks.count < self.look_at:
            return None
        if self.first is None:
            self._warm_up(marks)
            return None
        return self._extend(marks, printed)

    def _warm_up(self, marks: Marks) -> None:
        here = marks.count
        if self.case.warmup is not None:
            # One more step tells how many fill the window, where the only one before began unseen.
            if here == 1:
                self.look_at = 2
                self.first = 1
                self._steps = 0
                return
            self._begin(marks, self.look_at, median(marks.durations_s(max(1, here // 2), here)))
            return
        if here == 1:
            self._block_from, self.look_at = 1, 2
            return
        durations = marks.durations_s(self._block_from, here)
        self._medians.append(median(durations))
        self._spent_s += sum(durations)
        self._block_from = here
        settled = has_settled(self._medians)
        if (settled and here >= MIN_WARMUP_STEPS) or self._spent_s > MAX_WARMUP_S or len(self._medians) > MAX_BLOCKS:
            self.settled = settled
            self._begin(marks, here, self._medians[-1])
        else:
            block = math.ceil(WARMUP_BLOCK_S / max(self._medians[-1], 1e-9))
            self.look_at = here + max(1, min(MAX_STEPS_PER_BLOCK, block))

    def _begin(self, marks: Marks, first: int, step_s: float) -> None:
        self.first = first
        steps = max(MIN_STEPS, min(MAX_STEPS, math.ceil(self.case.target_window_s / max(step_s, 1e-9))))
        self.every = min(steps, steps_per_mark(self.mark_cost_s, step_s))
        self._steps = whole_blocks(steps, self.every, MAX_STEPS)
        self.look_at = first + self._steps

    def _extend(self, marks: Marks, printed: int) -> Cut | None:
        assert self.first is not None
        if not self._steps:
            self._begin(marks, self.first, marks.between_s(1, marks.count) / (marks.count - 1))
            return None
        steps = marks.count - self.first
        if self.needs_printed and printed < MIN_PRINTED and steps < MAX_PRINT_STRETCH * self._steps:
            self.look_at = marks.count + max(self.every, self._steps // 10 // self.every * self.every)
        elif self._is_imprecise(marks, steps):
            self.look_at = marks.count + self._steps
        else:
            return Cut(marks.count - min(steps, MAX_STRETCH * MAX_STEPS // self.every * self.every), marks.count)
        return None

    def _is_imprecise(self, marks: Marks, steps: int) -> bool:
        if self.case.precision is None or steps >= MAX_STRETCH * self._steps:
            return False
        return half_width(marks.durations_s(self.first or 1, marks.count)) > self.case.precision


def needed_steps(case: Case, marks: Marks) -> int:
    """About how many steps a program has to take for its window (pure), where it took some."""
    if (cut := given_cut(case)) is not None:
        return cut.last
    if marks.count < 2:
        return MIN_WARMUP_STEPS + MIN_STEPS
    first = max(1, marks.count // 2)
    step_s = max(median(marks.durations_s(first, marks.count)), 1e-9)
    settling = 1 + math.ceil(2 * WARMUP_BLOCK_S / step_s)
    warmup = case.warmup if case.warmup is not None else max(MIN_WARMUP_STEPS, settling)
    return warmup + max(MIN_STEPS, min(MAX_STEPS, math.ceil(case.target_window_s / step_s)))
