"""Watches a program from its first step to its last: marks, window, decision, observers, stop.

What happens at the end of each step is a look at two clocks and at shared numbers, in memory that was allocated before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.rank.clock import steps_per_mark
from bench.rank.program.batches import BatchCounter
from bench.rank.program.board import (
    CHANGES,
    Board,
    Decision,
    NoStore,
    OutputWindow,
    publish_to_nodes,
    read_from_nodes,
)
from bench.rank.program.device_time import DeviceMarks, device_of
from bench.rank.program.failures import ProgramProblem, no_agreement
from bench.rank.program.marks import CAPACITY, Marks
from bench.rank.program.observers import Observer
from bench.rank.program.window import GIVEN_WARMUP_STEPS, LOOKAHEAD_STEPS, Cut, WindowRule, given_cut
from bench.rank.progress import Progress

STORE_INTERVAL_S = 0.05
"""How often a node looks whether rank 0, on another one, has decided."""
CPU_INTERVAL_NS = 5_000_000
"""How often processor time is read, but where the window begins and ends: it takes longer than all else."""
LOOKAHEAD_S = 0.5
"""How long after the decision the ranks of several nodes are stopped at least."""


class StepWatch:
    """The steps of a program on one rank.

    Args:
        case: The case.
        me: This rank.
        board: What it shares with the ranks of its node.
        batches: What the DataLoaders yield.
        progress: Where the rank records its step.
        observers: What is observed after the window.
        printed: How many values of the metric have been printed so far; ``None``: there is no metric.
        make_device_marks: Makes what marks steps on the CUDA device of an index.
    """

    def __init__(
        self,
        case: Case,
        me: RankInfo,
        board: Board,
        batches: BatchCounter,
        progress: Progress,
        observers: Sequence[Observer] = (),
        printed: Callable[[], int] | None = None,
        make_device_marks: Callable[[int], DeviceMarks] = DeviceMarks,
    ) -> None:
        self.case, self.me, self.board, self.batches, self.progress = case, me, board, batches, progress
        self.observers, self._printed = tuple(observers), printed
        self._make_device_marks = make_device_marks
        self.marks = Marks()
        self.device_marks: DeviceMarks | None = None
        self.decision = Decision()
        self.stopped_at = 0
        """The mark at which the program was stopped; 0: it was not."""
        self.followed = False
        """The window is that of another rank."""
        self.spent_ns = 0
        """What watching has taken, at the ends of steps."""
        self.on_stop: Callable[[], None] = lambda: None
        """Called at the end of the step at which the program is to be stopped, and of each later one."""
        self.on_window: Callable[[], None] = lambda: None
        """Called when the measured window begins."""
        self.on_window_end: Callable[[], None] = lambda: None
        """Called once the window has ended, where further steps are observed."""
        self._changes, self._printed_before, self._polled_ns, self._observing = 0, 0, 0, False
        self._cpu_ns = self._cpu_read_ns = 0
        self._rule: WindowRule | None = None
        self._phase = ""
        self.pid = os.getpid()
        self._look_at = CAPACITY**4
        self.start_over(whole=bool(case.workload_options.get("whole")))

    def start_over(self, *, whole: bool) -> None:
        """Forget all steps so far: another way to see them has been found."""
        self.marks.count = 0
        self.whole, self.decision, self._phase = whole, Decision(), ""
        self._rule, self._look_at = None, CAPACITY**4
        extra = self._extra_steps(None)
        if whole:
            self._look_at = GIVEN_WARMUP_STEPS if self.me.rank == 0 else self._look_at
            return
        if (cut := given_cut(self.case)) is not None:
            self.decision = Decision(cut.first, cut.last, cut.last, cut.last + extra)
            self._look_at = cut.first
        elif self.me.rank == 0:
            self._rule = WindowRule(self.case, needs_printed=self._printed is not None)
            self._look_at = self._rule.look_at
        elif self._crosses_nodes and self.board.leads:
            self._look_at = 1

    @property
    def _crosses_nodes(self) -> bool:
        """Whether ranks share no memory. Network namespaces of one machine do."""
        return self.case.nodes > 1 and self.case.net is None

    @property
    def cut(self) -> Cut | None:
        """The window, once all of its steps have been taken."""
        decision = self.decision
        return Cut(decision.first, decision.last) if 0 < decision.last <= self.marks.count else None

    @property
    def every(self) -> int:
        """How many steps are marked together on the device."""
        return self.device_marks.every if self.device_marks is not None else 1

    def step_ended(self, optimizer: Any = None) -> None:
        """Mark the end of a step.

        Args:
            optimizer: That of the step; ``None`` where something else marks it.
        """
        began_ns = time.monotonic_ns()
        marks = self.marks
        number = marks.count + 1
        slot = number % CAPACITY
        marks.wall_ns[slot] = began_ns
        if began_ns - self._cpu_read_ns > CPU_INTERVAL_NS:
            self._read_cpu(began_ns)
        marks.cpu_ns[slot] = self._cpu_ns
        batches = self.batches
        marks.spent_ns[slot] = self.spent_ns + batches.spent_ns
        marks.keep_amounts(batches.amounts, batches.used, batches.last_used)
        batches.step_ended()
        if number == 1:
            self._prepare_device(optimizer)
            # The events are no part of the next step.
            marks.wall_ns[slot] = time.monotonic_ns()
        if self.device_marks is not None:
            self.device_marks.step_ended(number)
        marks.count = number
        cells = self.board.cells
        cells[self.board.own] = number
        self.progress.step_ended(began_ns - marks.wall_ns[slot - 1] if number > 1 else 0)
        if number >= self._look_at or cells[CHANGES] != self._changes or number == 1:
            self._look(number, began_ns)
        self.spent_ns += time.monotonic_ns() - began_ns

    def adopt(self, window: OutputWindow) -> None:
        """Take over the window of another rank, as steps of equal length: none was seen here."""
        marks, steps = self.marks, window.last - window.first
        for number in range(window.first, window.last + 1):
            elapsed_ns = (window.ended_ns - window.began_ns) * (number - window.first) // steps
            marks.wall_ns[number % CAPACITY] = window.began_ns + elapsed_ns
        marks.count = window.last
        self.decision = Decision(window.first, window.last, window.last, window.last)
        self.followed = True

    def disable(self) -> None:
        """Watch nothing any more: this process was forked from the rank's."""
        self.step_ended = _ignore  # type: ignore[method-assign]
        self.batches.disable()

    def finish_observing(self) -> dict[str, Any]:
        """What the observers know."""
        fields: dict[str, Any] = {}
        for observer in self.observers:
            fields |= observer.finish()
        return fields

    def _read_cpu(self, now_ns: int) -> None:
        self._cpu_ns, self._cpu_read_ns = time.process_time_ns(), now_ns

    def _prepare_device(self, optimizer: Any) -> None:
        device = device_of(optimizer) if optimizer is not None else None
        if device is not None:
            self.device_marks = self._make_device_marks(device)
            if self._rule is not None:
                self._rule.mark_cost_s = self.device_marks.mark_cost_s

    def _look(self, number: int, now_ns: int) -> None:
        """What is not done at the end of every step: decide, learn of a decision, change the phase, stop."""
        if self.board.cells[CHANGES] != self._changes:
            self._changes, self.decision = self.board.cells[CHANGES], self.board.read()
            self._mark_blocks()
        if self._rule is not None and not self.decision.last:
            self._decide(self._rule, number)
        elif self._decides_on_blocks(number):
            self._publish(self.decision._replace(every=self._steps_per_mark(number)))
        elif self.me.rank and not self.decision.stop and self._look_at <= number and not self.whole:
            self._ask_rank_0(now_ns)
        if self.whole and number >= GIVEN_WARMUP_STEPS:
            self._look_at = CAPACITY**4
        decision = self.decision
        self._enter_phase(number, now_ns)
        if decision.stop:
            later = (mark for mark in (decision.first, decision.watch_from) if mark > number)
            self._look_at = next(later, number + 1)
            if self.observers and number >= decision.watch_from:
                self._observe()
            if number >= decision.stop:
                self.stopped_at = self.stopped_at or number
                self.on_stop()

    def _extra_steps(self, step_s: float | None) -> int:
        return max((observer.steps(step_s) for observer in self.observers), default=0)

    def _observe(self) -> None:
        for observer in self.observers:
            if self._observing:
                observer.step_ended()
            else:
                observer.begin(self.decision.stop - self.decision.watch_from)
        self._observing = True

    def _enter_phase(self, number: int, now_ns: int) -> None:
        decision = self.decision
        if not self.whole and (number < decision.first or not decision.first):
            phase = "warm-up step"
        elif not decision.last or number < decision.last:
            phase = "measured step"
        else:
            phase = "further measurements"
        if phase != self._phase:
            self._phase = phase
            self.progress.enter(phase, step=number + 1 if phase == "warm-up step" else 1)
            self._read_cpu(now_ns)
            self.marks.cpu_ns[number % CAPACITY] = self._cpu_ns
            if phase == "measured step":
                self.on_window()
            elif phase == "further measurements" and decision.stop > decision.watch_from:
                self.on_window_end()

    def _decide(self, rule: WindowRule, number: int) -> None:
        printed = self._printed() if self._printed is not None else 0
        cut = rule.look(self.marks, printed - self._printed_before)
        self._look_at = rule.look_at
        if rule.first is not None and not self.decision.first:
            self._printed_before = printed
            settled = 0 if rule.settled is None else 1 if rule.settled else -1
            self._publish(Decision(first=rule.first, settled=settled, every=rule.every))
        if cut is not None:
            extra = self._extra_steps(self.marks.between_s(*cut) / (cut.last - cut.first))
            watch_from = self.board.farthest() + self._lookahead(cut)
            stop, settled, every = watch_from + extra, self.decision.settled, self.decision.every
            self._publish(Decision(cut.first, cut.last, watch_from, stop, settled, every))

    def _lookahead(self, cut: Cut) -> int:
        if self.case.ranks == 1:
            return 0
        if not self._crosses_nodes:
            return LOOKAHEAD_STEPS
        step_s = self.marks.between_s(cut.first, cut.last) / (cut.last - cut.first)
        return LOOKAHEAD_STEPS + int(LOOKAHEAD_S / max(step_s, 1e-6))

    def _publish(self, decision: Decision) -> None:
        """Tell the ranks of this node, and those of others where this is rank 0."""
        if self.me.rank == 0 and self._crosses_nodes:
            try:
                publish_to_nodes(decision)
            except NoStore:
                raise ProgramProblem(no_agreement(self.case.program.name if self.case.program else "")) from None
        self.board.publish(decision)
        self.decision, self._changes = decision, self.board.cells[CHANGES]
        self._mark_blocks()

    def _mark_blocks(self) -> None:
        """Mark the device as rarely as was decided."""
        if self.device_marks is not None and self.decision.every:
            cut = given_cut(self.case) if self.whole else None
            first, last = cut or (self.decision.first, self.decision.last)
            self.device_marks.mark_every(self.decision.every, first, last)

    def _decides_on_blocks(self, number: int) -> bool:
        """Whether it is decided here how many steps are marked together, where the window needs no decision.

        Ranks of several nodes might have no store to learn of it, and mark each step.
        """
        begun = number >= (GIVEN_WARMUP_STEPS if self.whole else self.decision.first)
        needed = self.device_marks is not None and self._rule is None and not self.decision.every
        return needed and begun and self.me.rank == 0 and number > 1 and not self._crosses_nodes

    def _steps_per_mark(self, number: int) -> int:
        """From the steps so far, of which the later half counts."""
        assert self.device_marks is not None
        middle = max(1, number // 2)
        return steps_per_mark(self.device_marks.mark_cost_s, self.marks.between_s(middle, number) / (number - middle))

    def _ask_rank_0(self, now_ns: int) -> None:
        """The first rank of another node looks, and tells the others there."""
        self._look_at = self.marks.count + 1
        if now_ns - self._polled_ns >= STORE_INTERVAL_S * 1e9:
            self._polled_ns = now_ns
            decision = read_from_nodes()
            if decision not in (None, self.decision):
                self._publish(decision)


def _ignore(optimizer: Any = None) -> None:
    return
