"""Runs a user's program in this process as one rank, and measures it without its help."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.core.records import DECOMPOSITION, RankRecord
from bench.rank import faults
from bench.rank.after_window import NEVER_ENDED
from bench.rank.context import RankContext
from bench.rank.program import failures, reported
from bench.rank.program.batches import BatchCounter
from bench.rank.program.board import Board, place_on_node
from bench.rank.program.checkpoints import CheckpointWatch
from bench.rank.program.ending import Ending, end_descendants, real_exit, run_exit_handlers
from bench.rank.program.entry import enter_program
from bench.rank.program.failures import ProgramProblem
from bench.rank.program.imports import ImportWatch
from bench.rank.program.listening import RENDEZVOUS_MODULE, BoundStores, told_port
from bench.rank.program.observers import Observer, observers_of
from bench.rank.program.options import ScriptOptions, options_of
from bench.rank.program.output_steps import END_WAIT_S, OutputFollower, output_window_of
from bench.rank.program.printed import PrintedValues, watch_output
from bench.rank.program.record import End, Observed, make_record, nothing_counted_line
from bench.rank.program.script import last_output, run_script
from bench.rank.program.signals import keep_stack_dump
from bench.rank.program.steps import OptimizerSteps
from bench.rank.program.watch import StepWatch
from bench.rank.program.window import GIVEN_WARMUP_STEPS, Cut, needed_steps, whole_cut


def measure_program(case: Case, me: RankInfo, out: Path, context: RankContext) -> RankRecord:
    """Run the program of a case as this rank.

    Args:
        case: A case with a program.
        me: The rank of this process.
        out: The trial's folder.
        context: What is known of the process.

    Returns:
        The record of this rank, which was kept (``context.keep``) before the program was stopped.

    Raises:
        ProgramProblem: The program gave no number, in one line with a remedy.
        BaseException: What the program raised.
    """
    script = enter_program(case, out, me.rank)
    board = Board(out.resolve(), *place_on_node(case, me.rank))
    return ProgramRank(case, me, context, board, observers_of(case)).run(script)


class ProgramRank:
    """One rank of a program, and all that watches it.

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
        self.case, self.me, self.context = case, me, context
        self.options: ScriptOptions = options_of(case)
        self.name = case.program.name if case.program is not None else ""
        self.record: RankRecord | None = None
        """The record, once the program has been stopped."""
        self.problem: ProgramProblem | None = None
        """Why there is none, where the program may have caught that."""
        metric = self.options.metric
        self._printed = PrintedValues(metric, self._after_print) if metric else None
        self._batches = BatchCounter(self.options.unit)
        self._watch = StepWatch(
            case,
            me,
            board,
            self._batches,
            context.progress,
            observers,
            printed=(lambda: self._printed.count if self._printed else 0) if metric else None,
        )
        self._watch.on_stop, self._watch.on_window = self._stop, self._check_counted
        self._watch.on_window_end = self._keep_window
        self._optimizers = OptimizerSteps(self._after_optimizer_step)
        self._checkpoints = CheckpointWatch()
        self._reports = reported.start(lambda: self._watch.marks.count)
        self._ending = Ending(self._checkpoints, self._keep_exit_problem)
        self._board, self._steps_from_output = board, False
        follows = self._printed is not None and me.rank > 0 and case.node_of_rank(me.rank) == 0
        self._follower = OutputFollower(board, self._watch, self._stop_following) if follows else None
        self._began_ns = time.monotonic_ns()

    def run(self, script: Path) -> RankRecord:
        """Run the program to its end, or until it is stopped."""
        self.context.progress.enter("starting the program")
        faults.inject_at_start(self.case.fault, self.me.rank)
        keep_stack_dump()
        imports = ImportWatch()
        self._install(imports)
        imports.start()
        finish_output: Callable[[], None] = watch_output(self._printed) if self._printed else lambda: None
        if self._follower is not None:
            self._follower.start()
        os.register_at_fork(after_in_child=self._watch.disable)
        os._exit = self._exit_at_once  # type: ignore[assignment]
        self._began_ns = time.monotonic_ns()
        try:
            status = run_script(script)
            last = self.context.progress.current
            self.context.progress.enter("leaving")
            run_exit_handlers()
            # A failure tells of where the program was.
            self.context.progress.enter(last.phase, last.step)
        except BaseException:
            if self.record is None:
                raise
            status = 0
        finally:
            os._exit = real_exit
            if self._follower is not None:
                self._follower.end()
            imports.stop()
            self._ending.finished()
            finish_output()
        end_descendants()
        return self._result(status)

    def _install(self, imports: ImportWatch) -> None:
        imports.when_imported("torch.optim.optimizer", self._optimizers.install)
        imports.when_imported("torch.utils.data.dataloader", self._batches.install)
        imports.when_imported("torch.distributed.distributed_c10d", self._limit_ranks)
        imports.when_imported(RENDEZVOUS_MODULE, BoundStores(self.me, told_port(os.environ)).bind)
        self._checkpoints.install(imports, lambda: self._optimizers.thread)
        for observer in self._watch.observers:
            observer.install(imports)

    def _result(self, status: int) -> RankRecord:
        if self.problem is not None:
            raise self.problem
        if self.record is not None:
            return self.record
        steps = self._watch.marks.count
        if status:
            raise ProgramProblem(failures.exited(self.name, status, last_output(), steps))
        cut = self._cut_at_end()
        return self._make_record(cut, stopped=False)

    def _cut_at_end(self) -> Cut:
        """The window of a program that has ended by itself, before it was stopped."""
        if self._follower is not None and not self._watch.marks.count:
            self._follower.adopt(END_WAIT_S)
        steps = self._watch.marks.count
        if not steps:
            if "torch" not in sys.modules and not self.options.metric:
                raise ProgramProblem(failures.never_imported_torch(self.name))
            raise ProgramProblem(failures.never_stepped(self.name, self.options.metric))
        cut = self._window_so_far()
        if cut is None:
            needed = needed_steps(self.case, self._watch.marks)
            warmup = self._watch.decision.first or min(GIVEN_WARMUP_STEPS, needed - 1)
            raise ProgramProblem(failures.too_few_steps(self.name, steps, needed, warmup))
        self._tell_output(cut, stopped=False)
        return cut

    def _window_so_far(self) -> Cut | None:
        watch = self._watch
        return whole_cut(self.case, watch.marks.count) if watch.whole and not watch.followed else watch.cut

    def _tell_output(self, cut: Cut, *, stopped: bool) -> None:
        """Tell the ranks that see no steps of their own."""
        if self._steps_from_output and self.me.rank == 0:
            self._board.publish_output(output_window_of(self._watch, *cut, stopped=stopped))

    def _make_record(self, cut: Cut, *, stopped: bool) -> RankRecord:
        record = self._record_of(cut, stopped=stopped)
        return record.model_copy(update=self._watch.finish_observing())

    def _keep_window(self) -> None:
        """The window is worth more than what is observed after it."""
        cut = self._watch.cut
        assert cut is not None
        with suppress(ProgramProblem):
            record = self._record_of(cut, stopped=True)
            update = {"complete": False, "missing": {DECOMPOSITION: NEVER_ENDED}}
            self.context.keep(record.model_copy(update=update))

    def _record_of(self, cut: Cut, *, stopped: bool) -> RankRecord:
        observed = Observed(
            self._watch,
            self._batches,
            self._optimizers,
            self._checkpoints,
            self._printed,
            self._reports.collect(),
            self._began_ns,
        )
        end = End(time.monotonic_ns(), stopped, None if stopped else 0)
        record = make_record(self.case, self.me, self.options, self.context, observed, cut, end)
        return record.model_copy(update={"not_finite": self._reports.first_not_finite()})

    def _after_optimizer_step(self, optimizer: Any) -> None:
        if self._steps_from_output:
            # Only what came first was seen in the output.
            self._steps_from_output = False
            self._watch.start_over(whole=self.options.whole)
        self._end_step(optimizer)

    def _end_step(self, optimizer: Any = None) -> None:
        if self.problem is not None:
            self._raise(self.problem)
        try:
            self._watch.step_ended(optimizer)
        except ProgramProblem as problem:
            if self.problem is None:
                self._raise(problem)
            raise

    def _after_print(self) -> None:
        if self._optimizers.optimizers or os.getpid() != self._watch.pid:
            return
        self._steps_from_output = True
        self._end_step()

    def _check_counted(self) -> None:
        """At the beginning of the window: a program of which nothing is counted is not run any longer."""
        counted = self._printed is not None or self.options.samples_per_step or any(self._batches.amounts)
        if not counted and self.me.rank == 0:
            self._give_up(nothing_counted_line(self.case, self.options, self._batches))

    def _give_up(self, line: str) -> NoReturn:
        self._raise(ProgramProblem(line))

    def _raise(self, problem: ProgramProblem) -> NoReturn:
        """Raise the reason why there is no number in the program, which may catch it, and ends anyway."""
        self.problem, self._ending.status = self.problem or problem, 1
        self._ending.count_raised()
        raise problem

    def _stop(self) -> None:
        """At the end of the step at which all ranks stop the program: the record first."""
        if self.record is None and self.problem is None:
            cut = self._watch.cut
            assert cut is not None
            try:
                self.record = self._make_record(cut, stopped=True)
            except ProgramProblem as problem:
                self._raise(problem)
            self.context.keep(self.record)
            self.context.progress.enter("leaving")
            self._tell_output(cut, stopped=True)
        if self._steps_from_output:
            # This is inside a write to a stream, which would take an exception for a failed one.
            self._ending.interrupt()
            return
        self._ending.stop()

    def _stop_following(self) -> None:
        """Rank 0 has stopped its program: in a thread of its own."""
        self._steps_from_output = True
        self._stop()

    def _keep_exit_problem(self, problem: str) -> None:
        if self.problem is not None:
            os.write(2, f"{self.problem}\n".encode(errors="replace"))
        if self.record is not None and self.record.program is not None:
            program = self.record.program.model_copy(update={"exit_problem": problem})
            self.context.keep(self.record.model_copy(update={"program": program}))

    def _exit_at_once(self, status: int) -> None:
        """The program calls ``os._exit``: what is known is kept before."""
        if os.getpid() == self._watch.pid and self.record is None and not status:
            cut = self._window_so_far()
            if cut is None:
                self._give_up(failures.ended_at_once(self.name, status, self._watch.marks.count))
            else:
                self.context.keep(self._make_record(cut, stopped=False))
        real_exit(status)

    def _limit_ranks(self, module: ModuleType) -> None:
        """A program that asks for more ranks than there are would wait for them until the trial's time is up."""
        begin: Any = module.__dict__["init_process_group"]

        @functools.wraps(begin)
        def init_process_group(*arguments: Any, **named: Any) -> Any:
            asked = named.get("world_size", arguments[3] if len(arguments) > 3 else -1)
            if isinstance(asked, int) and asked > self.me.world:
                self._give_up(failures.too_many_ranks(self.name, asked, self.me.world))
            return begin(*arguments, **named)

        module.__dict__["init_process_group"] = init_process_group
