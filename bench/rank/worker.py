"""One process of a trial: reads a case, plays a role, writes a record. The entry point is the same under every site.

    python -m bench.rank.worker --case case.json --role rank --out FOLDER

A rank writes ``record-<rank>.json`` into the folder; a process that fails writes ``failure-<role>-<rank>.json``.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from bench.core.case import SAMPLER_ROLE, Case
from bench.core.frozen_model import write_model
from bench.core.rank_info import RankInfo, read_rank_info
from bench.core.records import RankFailure, RankRecord
from bench.host.given_variables import begin_again_with
from bench.host.logs import MAX_ERROR_LENGTH, describe_exception, printable_line, traceback_lines
from bench.host.machine import host_name, read_boot_id
from bench.host.ownership import FOLDER_VARIABLE
from bench.host.processes import die_with_launcher
from bench.host.resources import cores_of_rank, pin_threads, reset_memory_peak, usable_cores
from bench.host.scratch import SCRATCH_VARIABLE
from bench.host.variables import BINDING, recorded_variables, remove_from_process
from bench.plugins import registry
from bench.plugins.backend import set_environment
from bench.rank import faults, loop
from bench.rank.context import RankContext
from bench.rank.flight_recorder import answering_requests, write_flight_record
from bench.rank.nccl_log import start_nccl_log, with_nccl_report
from bench.rank.program.failures import ProgramProblem
from bench.rank.program.run import measure_program
from bench.rank.progress import PhaseWatch, Progress, keep_error, pids_of_node
from bench.telemetry import sampler
from bench.telemetry.pause import hasten_sampling, pause_sampling

MODULE = "bench.rank.worker"
TAIL_LINES = 12
TIME_LIMIT = re.compile(r"time[d ]?.?out", re.IGNORECASE)
"""In the message of a collective that took too long."""


def measure_rank(case: Case, me: RankInfo, out: Path, on_failure: Callable[[RankFailure], None]) -> RankRecord:
    """Join the other ranks, run the case, and leave them.

    Args:
        case: The case to run.
        me: The rank of this process.
        out: The trial's folder.
        on_failure: Called with a failure before the other ranks are left.
    """
    context = _prepare_process(case, me, out)
    measure = _measure_work if case.program is None else _measure_program
    with answering_requests(out, me.rank):
        no_nccl_log = start_nccl_log(case, out, me.rank)
        record = measure(case, me, out, context, on_failure)
        return with_nccl_report(record, case, out, no_nccl_log)


def _measure_work(
    case: Case, me: RankInfo, out: Path, context: RankContext, on_failure: Callable[[RankFailure], None]
) -> RankRecord:
    """Run a workload of this project, or of a plugin."""
    import torch

    torch.set_num_threads(case.threads)
    backend, workload = registry.backend_of(case), registry.workload_of(case)
    if case.device == "cuda":
        # TensorFloat-32 would make results depend on how a batch is cut, beyond what float32 rounding explains.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    faults.inject_at_start(case.fault, me.rank)
    with backend.session(case, me) as session:
        try:
            return loop.measure(case, backend, workload, session, context)
        except BaseException as problem:
            # Before the session is left: leaving may wait for the other ranks, and makes them fail too.
            _keep_flight_record(out, me, problem)
            on_failure(describe_failure("rank", me.rank, problem, context.progress.current.description))
            raise


def _measure_program(
    case: Case, me: RankInfo, out: Path, context: RankContext, on_failure: Callable[[RankFailure], None]
) -> RankRecord:
    """Run a user's program under its launcher's variables. This process has loaded no framework."""
    with registry.backend_of(case).program_environment(case, me) as variables:
        set_environment(variables)
        try:
            return measure_program(case, me, out, context)
        except BaseException as problem:
            _keep_flight_record(out, me, problem)
            on_failure(describe_failure("rank", me.rank, problem, context.progress.current.description))
            raise


def _keep_flight_record(out: Path, me: RankInfo, problem: BaseException) -> None:
    """Where a collective exceeded its own time limit, which is shorter than the trial's."""
    if TIME_LIMIT.search(str(problem)[:MAX_ERROR_LENGTH]):
        write_flight_record(out, me.rank, timed_out=True)


def _prepare_process(case: Case, me: RankInfo, out: Path) -> RankContext:
    began_s = time.monotonic()
    reset_memory_peak()
    usable = usable_cores()
    planned: tuple[int, ...] = ()
    # A rank with a GPU needs cores for helper threads too: it is not pinned.
    if case.affinity == "cores" and case.device == "cpu" and usable:
        planned = cores_of_rank(me.local_rank, case.threads, usable)
        pin_threads(planned)
    variables, progress = recorded_variables(os.environ, case.env), Progress(out, me.rank)
    keep = partial(write_model, out, f"record-{me.rank}.json")
    scratch = os.environ.get(SCRATCH_VARIABLE)
    context = RankContext(
        began_s,
        planned,
        variables,
        progress,
        boot_id=read_boot_id(),
        keep=keep,
        folder=out,
        scratch=Path(scratch) if scratch else None,
    )
    if me.local_rank:
        return context
    # One rank per node pauses the sampler while the overhead of sampling is measured.
    node = case.node_of_rank(me.rank)
    return context._replace(
        pause_sampling=partial(pause_sampling, out, node), hasten_sampling=partial(hasten_sampling, out, node)
    )


def describe_failure(role: str, rank: int, problem: BaseException, where: str = "") -> RankFailure:
    """A failure as a value: the exception's last line, the end of its traceback, and where the process was.

    Args:
        role: The role of the process.
        rank: Its number.
        problem: The exception.
        where: Its phase or step, such as ``in measured step 17``.
    """
    if isinstance(problem, ProgramProblem):
        # A line for the user; the traceback would be that of this project.
        return RankFailure(role=role, rank=rank, host=host_name(), error=str(problem), at=time.time(), where=where)
    tail = tuple(printable_line(line) for line in traceback_lines(problem)[-TAIL_LINES:])
    error = describe_exception(problem)
    return RankFailure(role=role, rank=rank, host=host_name(), error=error, at=time.time(), tail=tail, where=where)


def _exit_on_failure(out: Path) -> Callable[[RankFailure], None]:
    """A function that writes a failure and ends this process at once: leaving its session may take forever."""

    def leave(failure: RankFailure) -> None:
        write_failure(out, failure)
        os._exit(1)

    return leave


def write_failure(out: Path, failure: RankFailure) -> None:
    """Write a failure as a record and to the log, as far as there are still a folder, a disk and a log."""
    try:
        write_model(out, f"failure-{failure.role}-{failure.rank}.json", failure)
    except OSError:
        if failure.role == "rank":
            with suppress(OSError):
                keep_error(out, failure.rank, failure.error)
    with suppress(OSError, ValueError):
        print("\n".join(failure.tail or (failure.error,)), file=sys.stderr, flush=True)


def run(case: Case, role: str, out: Path, arguments: Sequence[str]) -> int:
    """Run one role to its end, and return the exit status.

    Args:
        case: The case to run.
        role: The role of this process.
        out: The trial's folder.
        arguments: Those of this process, which begins again with them where it lacks a variable of the case.
    """
    me = read_rank_info(os.environ)
    try:
        if role != SAMPLER_ROLE.name:
            begin_again_with(case.env, MODULE, arguments)
        if role == "rank":
            write_model(out, f"record-{me.rank}.json", measure_rank(case, me, out, _exit_on_failure(out)))
            return 0
        if role == SAMPLER_ROLE.name:
            first = next((rank for rank in range(case.ranks) if case.node_of_rank(rank) == me.rank), 0)
            with closing(PhaseWatch(out, first)) as phase:
                sampler.run(case, out, phase.read, partial(pids_of_node, out, case))
            return 0
        role_main = registry.backend_of(case).role(role)
        if role_main is None:
            raise LookupError(f"backend {case.backend} has no role '{role}'")
        role_main(case, me, out)
        return 0
    except SystemExit as system_exit:
        return int(system_exit.code or 0)
    except BaseException as problem:
        with suppress(OSError, ValueError):
            print("\n".join(traceback_lines(problem)), file=sys.stderr, flush=True)
        write_failure(out, describe_failure(role, me.rank, problem))
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m bench.rank.worker", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", type=Path, required=True, help="file with the case as JSON")
    parser.add_argument("--role", default="rank", help="role of this process (default: rank)")
    parser.add_argument("--out", type=Path, required=True, help="existing folder for the record")
    chosen = parser.parse_args(arguments)
    die_with_launcher()
    # A program may change the working directory.
    out = chosen.out.resolve()
    os.environ[FOLDER_VARIABLE] = str(out)
    # Where a launcher has started this process: no framework is loaded yet.
    remove_from_process(BINDING)
    # On a timeout the node agent requests the stacks of all threads before it ends the process.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    return run(Case.model_validate_json(chosen.case.read_text()), chosen.role, out, arguments)


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        # A program may have closed it, or put another one in its place.
        with suppress(Exception):
            stream.flush()
    # Threads that frameworks leave behind may never end, or abort; everything that counts is on disk by now.
    os._exit(status)
