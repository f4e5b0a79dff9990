"""Determines why a trial ended, from how its processes ended and how far they had come: what came first, and the rest.

The rank that reports an error first need not be the cause. One that was stopped, or hangs, reports nothing; the others
fail while they wait for it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from bench.core.case import SAMPLER_ROLE
from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.records import Outcome, RankFailure
from bench.host.logs import last_lines
from bench.node.launchers.mpirun import lost_rank
from bench.rank.progress import RankProgress

LAUNCHER_LOG_LINES = 120
HANG_S = 5.0
HANG_STEPS = 10
"""A rank that failed so long after its step began, and so many times the step before it, had waited for another one."""
UNKNOWN_STEP_HANG_S = 25.0
"""The same where no step was timed before: shorter than the 30 s after which many libraries give up."""

PEER_LOST = re.compile(
    r"closed by peer|reset by peer|Broken pipe|remote process exited|HorovodInternalError|CommClosedError"
)
"""Errors of a rank that has lost another one (Gloo, NCCL, Horovod, Dask): they tell of that one's end."""

RANK_ROLES = ("rank", "worker")
"""Roles whose process number is that of a rank: a Dask worker runs the rank of its number."""
NO_RECORD = "ended without a record"
"""What is said of a process whose exit status is unknown."""


def determine_outcome(
    exit_report: ExitReport, failures: Sequence[RankFailure], progress: Sequence[RankProgress]
) -> tuple[Outcome, str | None]:
    """The outcome of a trial, and the reason unless it is ``ok``: which process failed first, and in which step.

    Pure, but that it reads mpirun's log where mpirun failed.

    Args:
        exit_report: How the processes ended.
        failures: The errors that processes reported, the first one first.
        progress: How far each rank has come.
    """
    if exit_report.suspended:
        return "invalid", f"suspended: {'; '.join(exit_report.suspended)}"
    if exit_report.timed_out:
        return (
            "timeout",
            f"not done within {exit_report.timeout_s:g} s: {describe_progress(progress, exit_report.stopped)}",
        )
    killed = next((failed for failed in exit_report.failed if failed.status == -signal.SIGKILL), None)
    if killed is not None:
        why = " (the kernel ran out of memory)" if exit_report.out_of_memory else ""
        return "failed", _describe_exit(killed, progress) + why
    # A sampler that failed costs telemetry, and no trial.
    failures = [failure for failure in failures if failure.role != SAMPLER_ROLE.name]
    reported = _describe_first_error(exit_report, failures, progress)
    earlier = _describe_stopped(exit_report, progress) or _describe_hung(exit_report, failures, progress)
    if earlier is not None:
        return "failed", f"{earlier}; then {reported}" if reported else earlier
    return ("ok", None) if reported is None else ("failed", reported)


def _describe_first_error(
    exit_report: ExitReport, failures: Sequence[RankFailure], progress: Sequence[RankProgress]
) -> str | None:
    """The error or the exit that came first; ``None`` without any."""
    reporters = {(failure.role, failure.rank) for failure in failures}
    first = exit_report.failed[0] if exit_report.failed else None
    if all(PEER_LOST.search(failure.error) for failure in failures):
        # The end of a rank that reports nothing is noticed after the errors of those that it leaves.
        silent = [failed for failed in exit_report.failed if failed.role in RANK_ROLES]
        silent = [failed for failed in silent if ("rank", failed.number) not in reporters]
        first = silent[0] if silent else first
    else:
        failures = [failure for failure in failures if not PEER_LOST.search(failure.error)]
    # A rank that ended first without reporting an error is the cause: the errors of others follow from its end.
    if failures and (first is None or first.role not in RANK_ROLES or ("rank", first.number) in reporters):
        cause = failures[0]
        where = f" ({cause.where})" if cause.where else ""
        return f"{cause.role} {cause.rank}: {cause.error}{where}"
    if first is None:
        return None
    lost = _rank_lost_by_mpirun(first) if first.role == MPIRUN else None
    hint = "see the last lines of its log" if last_lines(first.log, 1) else "its log is empty"
    return f"{_describe_exit(lost or first, progress)}; {hint}"


def _describe_stopped(exit_report: ExitReport, progress: Sequence[RankProgress]) -> str | None:
    """The processes that a signal had stopped when the trial ended: others failed because they waited for them."""
    descriptions = []
    for title in exit_report.stopped:
        role, _, number = title.partition(" ")
        where = _where(role, int(number), progress)
        descriptions.append(f"{title} was stopped by a signal{where}")
    return ", ".join(descriptions) or None


def _describe_hung(
    exit_report: ExitReport, failures: Sequence[RankFailure], progress: Sequence[RankProgress]
) -> str | None:
    """The ranks that did not come to the end of a step until another one gave up on them; ``None`` where no error
    tells of such a wait."""
    positions = {rank.rank: rank for rank in progress}
    waiting = positions.get(failures[0].rank) if failures and failures[0].role == "rank" else None
    if waiting is None or not waiting.since_s:
        return None
    waited_s = failures[0].at - waiting.since_s
    hang_s = max(HANG_S, HANG_STEPS * waiting.last_step_s) if waiting.last_step_s else UNKNOWN_STEP_HANG_S
    if waited_s < hang_s:
        return None
    running = {int(title.split()[-1]) for title in exit_report.stacks if title.split()[0] in RANK_ROLES}
    hung = [rank for rank in progress if rank.rank in running and rank.position <= waiting.position]
    if not hung:
        return None
    ranks = ", ".join(f"rank {rank.rank} {rank.description}" for rank in hung)
    return f"{ranks} did not go on for {waited_s:.0f} s"


def describe_progress(progress: Sequence[RankProgress], stopped: Sequence[str] = ()) -> str:
    """``rank 1 in measured step 17 (stopped), rank 0 in measured step 17``: those that are stopped first."""
    if not progress:
        return "no rank had started"
    stopped_ranks = {int(title.split()[-1]) for title in stopped if title.split()[0] in RANK_ROLES}
    return ", ".join(
        f"rank {rank.rank} {rank.description}{' (stopped)' if rank.rank in stopped_ranks else ''}"
        for rank in sorted(progress, key=lambda rank: (rank.rank not in stopped_ranks, rank.rank))
    )


def _describe_exit(failed: FailedProcess, progress: Sequence[RankProgress]) -> str:
    if failed.status is None:
        description = NO_RECORD
    elif failed.status < 0:
        description = f"was killed by {signal.Signals(-failed.status).name}"
    else:
        description = f"exited with status {failed.status}"
        if failed.status == 0 and failed.role == "rank":
            description += ", without a record,"
    return f"{failed.title} {description}{_where(failed.role, failed.number, progress)}"


def _where(role: str, number: int, progress: Sequence[RankProgress]) -> str:
    """`` in measured step 17``; nothing for a process that is no rank, or one that had not begun."""
    where = description_of(number, progress) if role in RANK_ROLES else None
    if where is None:
        return ""
    return f" {where}" if role == "rank" else f" with rank {number} {where}"


def description_of(rank: int, progress: Sequence[RankProgress]) -> str | None:
    return next((entry.description for entry in progress if entry.rank == rank), None)


def _rank_lost_by_mpirun(failed: FailedProcess) -> FailedProcess | None:
    """The rank that mpirun reports as lost."""
    lost = lost_rank(last_lines(failed.log, LAUNCHER_LOG_LINES))
    return FailedProcess("rank", *lost, failed.log) if lost else None
