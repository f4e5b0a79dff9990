"""Determines why a trial ended, from how its processes ended and how far they had come: what came first, and the rest.

The rank that reports an error first need not be the cause. One that was stopped, or hangs, reports nothing; the others
fail while they wait for it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence, Set

from bench.core.case import SAMPLER_ROLE
from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.records import Outcome, RankFailure
from bench.host.logs import last_lines
from bench.host.processes import describe_status
from bench.node.launchers.mpirun import lost_rank
from bench.rank.progress import RankProgress
from harness.sites.base.program_place import program_place

LAUNCHER_LOG_LINES = 120
HANG_S = 5.0
HANG_STEPS = 10
"""A rank that failed so long after its step began, and so many times the step before it, had waited for another one."""
UNKNOWN_STEP_HANG_S = 25.0
"""The same where no step was timed before: shorter than the 30 s after which many libraries give up."""

PEER_LOST = re.compile(
    r"closed by peer|reset by peer|Broken pipe|remote process exited|ncclRemoteError"
    r"|HorovodInternalError|CommClosedError"
)
"""Errors of a rank that has lost another one (Gloo, NCCL, Horovod, Dask): they tell of that one's end."""

RANK_ROLES = ("rank", "worker")
"""Roles whose process number is that of a rank: a Dask worker runs the rank of its number."""
NOTICE_S = 0.5
"""How much later than an error that was reported an end without a word may have been noticed, and be the cause."""
LOOK_S = 1.5
"""How much later than it happened a stopped process may have been seen."""
SIGNAL_HINTS: dict[int, str] = {
    signal.SIGBUS: "memory that it had mapped could not be used: /dev/shm or the disk is full, or a file was cut",
    signal.SIGXCPU: "it used up its CPU time: ulimit -t",
    signal.SIGXFSZ: "a file became larger than it may: ulimit -f",
    signal.SIGSEGV: "it touched memory that is not its own, or its stack is full: ulimit -s",
    signal.SIGHUP: "its terminal or its connection was closed",
}
NO_RECORD = "ended without a record"
"""What is said of a process whose exit status is unknown."""


def determine_outcome(
    exit_report: ExitReport, failures: Sequence[RankFailure], progress: Sequence[RankProgress]
) -> tuple[Outcome, str | None]:
    """The outcome of a trial, and the reason unless it is ``ok``: which process failed first, and in which step.

    Pure, but that it reads a launcher's log where that one failed.

    Args:
        exit_report: How the processes ended.
        failures: The errors that processes reported, the first one first.
        progress: How far each rank has come.
    """
    if exit_report.suspended:
        return "invalid", f"suspended: {'; '.join(exit_report.suspended)}"
    if exit_report.timed_out:
        others = [title for title in exit_report.stopped if rank_of(title) is None]
        first = "".join(f"{title} was stopped by a signal; " for title in others)
        places = {title: place for title, stack in exit_report.stacks.items() if (place := program_place(stack))}
        place = describe_progress(progress, exit_report.stopped, places)
        return "timeout", f"not done within {exit_report.timeout_s:g} s: {first}{place}"
    # A sampler that failed costs telemetry, and no trial.
    failures = [failure for failure in failures if failure.role != SAMPLER_ROLE.name]
    cause = _first_cause(exit_report, failures)
    described = _describe(cause, exit_report, progress)
    stopped = _describe_stopped(exit_report, cause, progress)
    earlier = stopped or (None if _is_kill(cause) else _describe_hung(exit_report, failures, progress))
    if earlier is not None:
        return "failed", f"{earlier}; then {described}" if described else earlier
    return ("ok", None) if described is None else ("failed", described)


def _first_cause(exit_report: ExitReport, failures: Sequence[RankFailure]) -> FailedProcess | RankFailure | None:
    """The error that was reported, or the process that ended without a word, from which the others follow."""
    reporters = {(failure.role, failure.rank) for failure in failures}
    silent = sorted(
        (ended for ended in map(_as_rank, exit_report.failed) if not _has_reported(ended, reporters)),
        key=lambda ended: ended.at,
    )
    unexpected = [ended for ended in silent if _is_unexpected(ended)]
    errors = [failure for failure in failures if not PEER_LOST.search(failure.error)]
    # Of those whose ends were noticed together, one that was killed did not end by itself, and one whose status is
    # known is the one that its launcher names: it ends the others.
    together = [ended for ended in unexpected if ended.at <= unexpected[0].at + NOTICE_S]
    unexpected = sorted(together, key=lambda ended: (ended.status != -signal.SIGKILL, ended.status is None, ended.at))
    if unexpected and (not errors or _began_by(unexpected[0]) <= errors[0].at):
        return unexpected[0]
    causes: list[FailedProcess | RankFailure] = [*errors, *failures, *silent]
    return causes[0] if causes else None


def _began_by(ended: FailedProcess) -> float:
    """When a process may have ended. One of unknown status may have been ended by its launcher, after an error."""
    return ended.at if ended.status is None else ended.at - NOTICE_S


def _has_reported(ended: FailedProcess, reporters: Set[tuple[str, int]]) -> bool:
    return (ended.role, ended.number) in reporters or (ended.role in RANK_ROLES and ("rank", ended.number) in reporters)


def _is_unexpected(ended: FailedProcess) -> bool:
    """Whether nothing else explains an end. A launcher, or a process that starts ranks through a service, exits with a
    status above 0 where one of its ranks has failed."""
    return ended.role in RANK_ROLES or ended.status is None or ended.status <= 0


def _is_kill(cause: FailedProcess | RankFailure | None) -> bool:
    return isinstance(cause, FailedProcess) and cause.status == -signal.SIGKILL


def _as_rank(failed: FailedProcess) -> FailedProcess:
    """A launcher that failed as the rank that it reports as lost, and a rank with the status that its launcher
    reports."""
    if failed.role != MPIRUN and (failed.status is not None or failed.role != "rank"):
        return failed
    lost = lost_rank(last_lines(failed.log, LAUNCHER_LOG_LINES))
    if lost is None or (failed.role == "rank" and failed.number != lost[0]):
        return failed
    return FailedProcess("rank", *lost, failed.log, failed.at)


def _describe(
    cause: FailedProcess | RankFailure | None, exit_report: ExitReport, progress: Sequence[RankProgress]
) -> str | None:
    if cause is None:
        return None
    if isinstance(cause, RankFailure):
        return f"{cause.role} {cause.rank}: {cause.error}{f' ({cause.where})' if cause.where else ''}"
    description = _describe_exit(cause, progress) + signal_hint(cause.status, exit_report)
    if _is_kill(cause):
        return description
    hint = "see the last lines of its log" if last_lines(cause.log, 1) else "its log is empty"
    return f"{description}; {hint}"


def signal_hint(status: int | None, exit_report: ExitReport) -> str:
    """What most likely sent the signal that a process was killed by, in parentheses; nothing where anybody may have
    (pure)."""
    if status == -signal.SIGKILL and exit_report.out_of_memory:
        return " (the kernel ran out of memory)" if not exit_report.memory_limit else f" ({exit_report.memory_limit})"
    if status == -signal.SIGKILL and exit_report.cpu_limit_s is not None:
        return f" (its limit of CPU time is {exit_report.cpu_limit_s} s: ulimit -t)"
    hint = SIGNAL_HINTS.get(-status) if status is not None else None
    return f" ({hint})" if hint else ""


def _describe_stopped(
    exit_report: ExitReport, cause: FailedProcess | RankFailure | None, progress: Sequence[RankProgress]
) -> str | None:
    """The processes that a signal had stopped when the trial ended, unless the cause came first: others failed because
    they waited for them."""
    descriptions = []
    for title in exit_report.stopped:
        if cause is not None and _is_silent_before(cause, exit_report.stopped_at.get(title, 0.0)):
            continue
        rank = rank_of(title)
        where = "" if rank is None else _where(title.split()[0], rank, progress)
        descriptions.append(f"{title} was stopped by a signal{where}")
    return ", ".join(descriptions) or None


def _is_silent_before(cause: FailedProcess | RankFailure, moment_s: float) -> bool:
    """Whether a process ended without a word, or with an error of its own, before a moment at which another one was
    seen stopped, which may be a while after it was."""
    is_own = isinstance(cause, FailedProcess) or not PEER_LOST.search(cause.error)
    return is_own and cause.at > 0 and cause.at < moment_s - LOOK_S


def rank_of(title: str) -> int | None:
    """The number of the rank of a process, by its title such as ``worker 1``; ``None``: it holds no rank (pure)."""
    role, _, number = title.partition(" ")
    return int(number) if role in RANK_ROLES and number.isdigit() else None


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
    running = {rank_of(title) for title in exit_report.stacks}
    hung = [rank for rank in progress if rank.rank in running and rank.position <= waiting.position]
    if not hung:
        return None
    ranks = ", ".join(f"rank {rank.rank} {rank.description}" for rank in hung)
    return f"{ranks} did not go on for {waited_s:.0f} s"


def describe_progress(
    progress: Sequence[RankProgress], stopped: Sequence[str] = (), places: Mapping[str, str] | None = None
) -> str:
    """``rank 1 in measured step 17 (stopped), rank 0 in measured step 17``: those that are stopped first.

    Args:
        progress: How far each rank has come.
        stopped: The titles of processes that a signal has stopped.
        places: Where programs are, by the title of the process.
    """
    if not progress:
        return "no rank had started"
    stopped_ranks = {rank_of(title) for title in stopped}
    return ", ".join(
        f"rank {rank.rank} {rank.description}"
        + (" (stopped)" if rank.rank in stopped_ranks else "")
        + (f" ({place})" if (place := (places or {}).get(f"rank {rank.rank}")) else "")
        for rank in sorted(progress, key=lambda rank: (rank.rank not in stopped_ranks, rank.rank))
    )


def _describe_exit(failed: FailedProcess, progress: Sequence[RankProgress]) -> str:
    description = NO_RECORD if failed.status is None else describe_status(failed.status)
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
