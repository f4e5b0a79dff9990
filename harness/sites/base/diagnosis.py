"""Diagnoses how a trial ended, from what its processes left: which failed first, and in which step each rank was."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.core.case import SAMPLER_ROLE
from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.records import Outcome, RankFailure, RankRecord
from bench.core.telemetry import Recording, read_recording
from bench.node.launchers.mpirun import lost_rank
from bench.rank.progress import RankProgress, read_progress
from harness.sites.base.contract import TrialResult

RecordT = TypeVar("RecordT", RankRecord, RankFailure)

TAIL_LINES = 20
STACK_LINES = 120

RANK_ROLES = ("rank", "worker")
"""Roles whose process number is that of a rank: a Dask worker runs the rank of its number."""
NO_RECORD = "ended without a record"
"""What is said of a process whose exit status is unknown."""


@dataclass(frozen=True)
class LostNode:
    """A node that left no report, and why as far as the site knows."""

    node: int
    name: str
    why: str

    @property
    def title(self) -> str:
        """``node 2 (n3)``."""
        return f"node {self.node} ({self.name})"


def diagnose(
    folder: Path, exit_report: ExitReport, lost: Sequence[LostNode] = (), ranks_on_a_node: int = 1
) -> TrialResult:
    """Read the trial's folder and diagnose how the trial ended.

    Args:
        folder: The trial's folder, with records, failures, progress files, recordings and logs.
        exit_report: How its processes ended, on all nodes together.
        lost: Nodes that left no report.
        ranks_on_a_node: The number of ranks on each node.
    """
    records = sorted(_read_records(folder, "record-*.json", RankRecord), key=lambda record: record.rank)
    progress = read_progress(folder)
    failures = tuple(
        _with_progress(failure, progress)
        for failure in sorted(_read_records(folder, "failure-*.json", RankFailure), key=lambda f: f.at)
    )
    outcome, reason = determine_outcome(exit_report, failures, progress)
    if lost:
        outcome, reason = "failed", describe_lost_node(lost[0], progress, ranks_on_a_node)
    tail: list[str] = []
    if outcome != "ok":
        for failed in exit_report.failed[:2]:
            tail += _prefixed(failed.title, last_lines(failed.log, TAIL_LINES))
        for title, lines in exit_report.stacks.items():
            tail += _prefixed(title, lines[:STACK_LINES])
    return TrialResult(outcome, reason, tuple(records), failures, tuple(tail), read_recordings(folder))


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
    reporters = {(failure.role, failure.rank) for failure in failures}
    first = exit_report.failed[0] if exit_report.failed else None
    # A rank that ended first without reporting an error is the cause: the errors of others follow from its end.
    if failures and (first is None or first.role not in RANK_ROLES or ("rank", first.number) in reporters):
        cause = failures[0]
        where = f" ({cause.where})" if cause.where else ""
        return "failed", f"{cause.role} {cause.rank}: {cause.error}{where}"
    if first is None:
        return "ok", None
    lost = _rank_lost_by_mpirun(first) if first.role == MPIRUN else None
    return "failed", f"{_describe_exit(lost or first, progress)}; see the last lines of its log"


def describe_lost_node(lost: LostNode, progress: Sequence[RankProgress], ranks_on_a_node: int) -> str:
    """``node 2 (n3) is gone: Slurm says NODE_FAIL; last seen: rank 2 in measured step 17``."""
    on_node = [rank for rank in progress if rank.rank // ranks_on_a_node == lost.node]
    last_seen = f"; last seen: {describe_progress(on_node)}" if on_node else ""
    return f"{lost.title} is gone: {lost.why}{last_seen}"


def describe_progress(progress: Sequence[RankProgress], stopped: Sequence[str] = ()) -> str:
    """``rank 0 in measured step 17, rank 1 in measured step 17 (stopped)``."""
    if not progress:
        return "no rank had started"
    stopped_ranks = {int(title.split()[-1]) for title in stopped if title.split()[0] in RANK_ROLES}
    return ", ".join(
        f"rank {rank.rank} {rank.description}{' (stopped)' if rank.rank in stopped_ranks else ''}" for rank in progress
    )


def _describe_exit(failed: FailedProcess, progress: Sequence[RankProgress]) -> str:
    if failed.status is None:
        description = NO_RECORD
    elif failed.status < 0:
        description = f"was killed by {signal.Signals(-failed.status).name}"
    else:
        description = f"exited with status {failed.status}"
    where = _description_of(failed.number, progress) if failed.role in RANK_ROLES else None
    if where is None:
        return f"{failed.title} {description}"
    where = where if failed.role == "rank" else f"with rank {failed.number} {where}"
    return f"{failed.title} {description} {where}"


def _description_of(rank: int, progress: Sequence[RankProgress]) -> str | None:
    return next((entry.description for entry in progress if entry.rank == rank), None)


def _rank_lost_by_mpirun(failed: FailedProcess) -> FailedProcess | None:
    """The rank that mpirun reports as lost."""
    lost = lost_rank(last_lines(failed.log, STACK_LINES))
    return FailedProcess("rank", *lost, failed.log) if lost else None


def _with_progress(failure: RankFailure, progress: Sequence[RankProgress]) -> RankFailure:
    if failure.where or failure.role != "rank":
        return failure
    return failure.model_copy(update={"where": _description_of(failure.rank, progress) or ""})


def read_recordings(folder: Path) -> tuple[Recording, ...]:
    """The recordings of the samplers; one that can't be read is left out."""
    recordings = []
    for path in sorted(folder.glob("telemetry-*.jsonl")):
        with contextlib.suppress(OSError, ValueError), path.open() as lines:
            recordings.append(read_recording(lines))
    return tuple(recordings)


def last_lines(log: Path, count: int) -> list[str]:
    """The last ``count`` lines of a log; none where it can't be read."""
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-count:]
    return []


def _prefixed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}: {line}" for line in lines]


def _read_records(folder: Path, pattern: str, kind: type[RecordT]) -> list[RecordT]:
    return [kind.model_validate_json(path.read_text()) for path in folder.glob(pattern)]
