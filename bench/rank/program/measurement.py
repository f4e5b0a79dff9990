"""What is measured of a program in one rank: reacts to the ends of its steps, makes the record, stops the program."""

from __future__ import annotations

import functools
import os
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.core.records import DECOMPOSITION, RankRecord
from bench.host.logs import describe_exception, traceback_lines
from bench.rank.after_window import NEVER_ENDED
from bench.rank.context import RankContext
from bench.rank.program import failures, reported
from bench.rank.program.batches import BatchCounter
from bench.rank.program.board import Board
from bench.rank.program.checkpoints import CheckpointWatch
from bench.rank.program.ending import Ending
from bench.rank.program.failures import ProgramProblem
from bench.rank.program.imports import ImportWatch
from bench.rank.program.listening import RENDEZVOUS_MODULE, BoundStores, told_port
from bench.rank.program.observers import Observer
from bench.rank.program.options import options_of
from bench.rank.program.output_steps import OutputFollower, output_window_of
from bench.rank.program.printed import PrintedValues
from bench.rank.program.process_group import PROCESS_GROUP_MODULE, limit_ranks
from bench.rank.program.record import End, Observed, make_record, nothing_counted_line
from bench.rank.program.steps import OptimizerSteps
from bench.rank.program.watch import StepWatch
from bench.rank.program.window import Cut, whole_cut


class Measurement:
    """All that watches one rank of a program.

    Args:
        case: A case with a program.
        me: The rank of this process.
        context: What is known of the process.
        board: What it shares with the ranks of its node.
        observers: What is observed after the window.
    """

    def __init__(
        self, case: Case, me: RankInfo, context: RankContext, board: Board, observers: tuple[Observer, ...] = ()
    ) -> None:
        self.case, self.me, self.context, self.options = case, me, context, options_of(case)
        self.name = case.program.name if case.program is not None else ""
        self.record: RankRecord | None = None
        """The record, once the program has been stopped."""
        self.problem: ProgramProblem | None = None
        """Why there is none, where the program may have caught that."""
        metric = self.options.metric
        self.printed = PrintedValues(metric, self._after_print) if metric else None
        self.batches = BatchCounter(self.options.unit)
        printed = self.printed
        count_printed = (lambda: printed.count) if printed is not None else None
        self.watch = StepWatch(case, me, board, self.batches, context.progress, observers, count_printed)
        self.watch.on_stop, self.watch.on_window = self._stop, self._check_counted
        self.watch.on_window_end = self._keep_window
        self.optimizers = OptimizerSteps(self._after_optimizer_step)
        self.checkpoints = CheckpointWatch()
        self.ending = Ending(self.checkpoints, self._keep_exit_problem)
        self.reports = reported.start(lambda: self.watch.marks.count)
        self.steps_from_output = False
        follows = printed is not None and me.rank > 0 and case.node_of_rank(me.rank) == 0
        self.follower = OutputFollower(board, self.watch, self._stop_following) if follows else None
        self._board, self._began_ns = board, time.monotonic_ns()

    def install(self, imports: ImportWatch) -> None:
        """Watch the modules that the program imports."""
        imports.when_imported("torch.optim.optimizer", self.optimizers.install)
        imports.when_imported("torch.utils.data.dataloader", self.batches.install)
        limit = functools.partial(limit_ranks, world=self.me.world, too_many=self._have_too_few_ranks)
        imports.when_imported(PROCESS_GROUP_MODULE, limit)
        imports.when_imported(RENDEZVOUS_MODULE, BoundStores(self.me, told_port(os.environ)).bind)
        self.checkpoints.install(imports, lambda: self.optimizers.thread)
        for observer in self.watch.observers:
            observer.install(imports)

    def begin(self) -> None:
        """The program begins now."""
        self._began_ns = time.monotonic_ns()

    def window_so_far(self) -> Cut | None:
        """The window, if the program has taken all of its steps."""
        watch = self.watch
        return whole_cut(self.case, watch.marks.count, watch.every) if watch.whole and not watch.followed else watch.cut

    def complete(self, cut: Cut, *, stopped: bool) -> RankRecord:
        """The record, with what was observed after the window; ranks that see no steps of their own are told.

        Raises:
            ProgramProblem: It is not known how much the program processes in a step.
        """
        record = self._record_of(cut, stopped=stopped)
        if self.steps_from_output and self.me.rank == 0:
            self._board.publish_output(output_window_of(self.watch, *cut, stopped=stopped))
        return record.model_copy(update=self.watch.finish_observing())

    def give_up(self, line: str) -> NoReturn:
        """End the program in the middle: there will be no number. ``line`` says why."""
        self._raise(ProgramProblem(line))

    def _raise(self, problem: ProgramProblem) -> NoReturn:
        """Raise a problem in the program, which may catch it, and ends anyway."""
        self.problem, self.ending.status = self.problem or problem, 1
        self.ending.count_raised()
        raise problem

    def _record_of(self, cut: Cut, *, stopped: bool) -> RankRecord:
        observed = Observed(
            self.watch,
            self.batches,
            self.optimizers,
            self.checkpoints,
            self.printed,
            self.reports.collect(),
            self._began_ns,
        )
        end = End(time.monotonic_ns(), stopped, None if stopped else 0)
        record = make_record(self.case, self.me, self.options, self.context, observed, cut, end)
        return record.model_copy(update={"not_finite": self.reports.first_not_finite()})

    def _keep_window(self) -> None:
        """The window is worth more than what is observed after it."""
        cut = self.watch.cut
        assert cut is not None
        with suppress(ProgramProblem):
            record = self._record_of(cut, stopped=True)
            update = {"complete": False, "missing": {DECOMPOSITION: NEVER_ENDED}}
            self.context.keep(record.model_copy(update=update))

    def _after_optimizer_step(self, optimizer: Any) -> None:
        if self.steps_from_output:
            # Only what came first was seen in the output.
            self.steps_from_output = False
            self.watch.start_over(whole=self.options.whole)
        self._end_step(optimizer)

    def _after_print(self) -> None:
        if not self.optimizers.optimizers and os.getpid() == self.watch.pid:
            self.steps_from_output = True
            self._end_step()

    def _end_step(self, optimizer: Any = None) -> None:
        if self.problem is not None:
            self._raise(self.problem)
        try:
            self.watch.step_ended(optimizer)
        except ProgramProblem as problem:
            if self.problem is None:
                self._raise(problem)
            raise
        except Exception as problem:
            # A defect of this project: the program would take it for one of its own.
            with suppress(Exception):
                print("\n".join(traceback_lines(problem)), file=sys.stderr, flush=True)
            self.give_up(failures.not_measured(self.name, describe_exception(problem)))

    def _check_counted(self) -> None:
        """At the beginning of the window: a program of which nothing is counted is not run any longer."""
        counted = self.printed is not None or self.options.samples_per_step or any(self.batches.amounts)
        if not counted and self.me.rank == 0:
            self.give_up(nothing_counted_line(self.case, self.options, self.batches))

    def _have_too_few_ranks(self, asked: int) -> NoReturn:
        self.give_up(failures.too_many_ranks(self.name, asked, self.me.world))

    def _stop(self) -> None:
        """At the end of the step at which all ranks stop the program: the record first."""
        if self.record is None:
            cut = self.watch.cut
            assert cut is not None
            self.record = self.complete(cut, stopped=True)
            self.context.keep(self.record)
            self.context.progress.enter("leaving")
        if self.steps_from_output:
            # This is inside a write to a stream, which would take an exception for a failed one.
            self.ending.interrupt()
        else:
            self.ending.stop()

    def _stop_following(self) -> None:
        """Rank 0 has stopped its program: in a thread of its own."""
        self.steps_from_output = True
        self._stop()

    def _keep_exit_problem(self, problem: str) -> None:
        if self.problem is not None:
            os.write(2, f"{self.problem}\n".encode(errors="replace"))
        if self.record is not None and self.record.program is not None:
            program = self.record.program.model_copy(update={"exit_problem": problem})
            self.context.keep(self.record.model_copy(update={"program": program}))
