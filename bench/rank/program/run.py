"""Runs a user's program in this process as one rank, and measures it without its help."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.core.records import RankRecord
from bench.rank import faults
from bench.rank.context import RankContext
from bench.rank.program import failures
from bench.rank.program.board import Board, place_on_node
from bench.rank.program.ending import end_descendants, real_exit, run_exit_handlers
from bench.rank.program.entry import enter_program
from bench.rank.program.failures import ProgramProblem
from bench.rank.program.imports import ImportWatch
from bench.rank.program.measurement import Measurement
from bench.rank.program.observers import observers_of
from bench.rank.program.output_steps import END_WAIT_S
from bench.rank.program.printed import watch_output
from bench.rank.program.script import last_output, run_script
from bench.rank.program.signals import keep_stack_dump
from bench.rank.program.window import GIVEN_WARMUP_STEPS, Cut, needed_steps


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
    context.progress.enter("starting the program")
    measurement = Measurement(case, me, context, board, observers_of(case))
    status = _run(script, measurement)
    if measurement.problem is not None:
        raise measurement.problem
    if measurement.record is not None:
        end_descendants()
        return measurement.record
    if status:
        steps = measurement.watch.marks.count
        raise ProgramProblem(failures.exited(measurement.name, status, last_output(), steps))
    return measurement.complete(_cut_at_end(measurement), stopped=False)


def _run(script: Path, measurement: Measurement) -> int:
    """Run a script to its end, or until it is stopped; returns its exit status, 0 where it was stopped."""
    faults.inject_at_start(measurement.case.fault, measurement.me.rank)
    keep_stack_dump()
    imports = ImportWatch()
    measurement.install(imports)
    imports.start()
    printed, follower, progress = measurement.printed, measurement.follower, measurement.context.progress
    finish_output: Callable[[], None] = watch_output(printed) if printed is not None else lambda: None
    if follower is not None:
        follower.start()
    os.register_at_fork(after_in_child=measurement.watch.disable)
    os._exit = _exit_with_record(measurement)  # type: ignore[assignment]
    program = measurement.case.program
    measurement.begin()
    try:
        status = run_script(script, program.module if program is not None else None)
        last = progress.current
        progress.enter("leaving")
        run_exit_handlers()
        # A failure tells of where the program was.
        progress.enter(last.phase, last.step)
    except BaseException:
        # What a stopped program raises on its way out is nothing to report.
        if measurement.record is None and measurement.problem is None:
            raise
        return 0
    finally:
        os._exit = real_exit
        if follower is not None:
            follower.end()
        imports.stop()
        measurement.ending.finished()
        finish_output()
    return status


def _exit_with_record(measurement: Measurement) -> Callable[[int], None]:
    """What the program calls as ``os._exit``: what is known is kept before."""

    def leave(status: int) -> None:
        if os.getpid() == measurement.watch.pid and measurement.record is None and not status:
            cut = measurement.window_so_far()
            if cut is None:
                steps = measurement.watch.marks.count
                measurement.give_up(failures.ended_at_once(measurement.name, status, steps))
            measurement.context.keep(measurement.complete(cut, stopped=False))
        real_exit(status)

    return leave


def _cut_at_end(measurement: Measurement) -> Cut:
    """The window of a program that has ended by itself. Raises :class:`ProgramProblem` where it has none."""
    watch, case, name = measurement.watch, measurement.case, measurement.name
    if measurement.follower is not None and not watch.marks.count:
        measurement.follower.adopt(END_WAIT_S)
    steps, metric = watch.marks.count, measurement.options.metric
    if not steps:
        if "torch" not in sys.modules and not metric:
            raise ProgramProblem(failures.never_imported_torch(name))
        raise ProgramProblem(failures.never_stepped(name, metric))
    cut = measurement.window_so_far()
    if cut is None:
        needed = needed_steps(case, watch.marks)
        warmup = watch.decision.first or min(GIVEN_WARMUP_STEPS, needed - 1)
        raise ProgramProblem(failures.too_few_steps(name, steps, needed, warmup))
    return cut
