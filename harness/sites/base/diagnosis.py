"""What the processes of a trial left behind: who failed first, where each rank was, what it said."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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
"""Roles whose processes hold the rank of their own number: Dask's workers do."""


@dataclass(frozen=True)
class LostNode:
    """A node that went without a word, and what is known of why."""

    node: int
    name: str
    why: str

    @property
    def title(self) -> str:
        return f"node {self.node} ({self.name})"


def diagnose(
    folder: Path, exit_report: ExitReport, lost: Sequence[LostNode] = (), ranks_on_a_node: int = 1
) -> TrialResult:
    """Read what is in the trial's folder and say how it ended."""
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
    """Outcome and reason (pure but for the log of mpirun): who was first, and in which step."""
    if exit_report.timed_out:
        return (
            "timeout",
            f"not done within {exit_report.timeout_s:g} s: {describe_progress(progress, exit_report.stopped)}",
        )
    killed = next((failed for failed in exit_report.failed if failed.status == -signal.SIGKILL), None)
    if killed is not None:
        why = " (the kernel ran out of memory)" if exit_report.out_of_memory else ""
        return "failed", _describe_exit(killed, progress) + why
    said = {(failure.role, failure.rank) for failure in failures}
    first = exit_report.failed[0] if exit_report.failed else None
    # Who left without a word was not told why by the others; they fail because it is gone.
    if failures and (first is None or first.role not in RANK_ROLES or ("rank", first.number) in said):
        cause = failures[0]
        where = f" ({cause.where})" if cause.where else ""
        return "failed", f"{cause.role} {cause.rank}: {cause.error}{where}"
    if first is None:
        return "ok", None
    lost = _rank_lost_by_mpirun(first) if first.role == MPIRUN else None
    return "failed", f"{_describe_exit(lost or first, progress)}; see the log's last lines"


def describe_lost_node(lost: LostNode, progress: Sequence[RankProgress], ranks_on_a_node: int) -> str:
    """``node 2 (n3) is gone: Slurm says NODE_FAIL; rank 2 was last seen in measured step 17``."""
    on_node = [one for one in progress if one.rank // ranks_on_a_node == lost.node]
    said = f"; last seen: {describe_progress(on_node)}" if on_node else ""
    return f"{lost.title} is gone: {lost.why}{said}"


def describe_progress(progress: Sequence[RankProgress], stopped: Sequence[str] = ()) -> str:
    """``rank 0 in measured step 17, rank 1 in measured step 17 (stopped)``."""
    if not progress:
        return "no rank had begun"
    stopped_ranks = {int(title.split()[-1]) for title in stopped if title.split()[0] in RANK_ROLES}
    return ", ".join(
        f"rank {one.rank} {one.description}{' (stopped)' if one.rank in stopped_ranks else ''}" for one in progress
    )


def _describe_exit(failed: FailedProcess, progress: Sequence[RankProgress]) -> str:
    if failed.status is None:
        description = "ended without a word"
    elif failed.status < 0:
        description = f"was killed by {signal.Signals(-failed.status).name}"
    else:
        description = f"ended with status {failed.status} and no word"
    where = next((one.description for one in progress if one.rank == failed.number and failed.role in RANK_ROLES), None)
    if where is None:
        return f"{failed.title} {description}"
    place = where if failed.role == "rank" else f"with rank {failed.number} {where}"
    return f"{failed.title} {description} {place}"


def _rank_lost_by_mpirun(failed: FailedProcess) -> FailedProcess | None:
    """The rank that mpirun says it lost."""
    lost = lost_rank(last_lines(failed.log, STACK_LINES))
    return FailedProcess("rank", *lost, failed.log) if lost else None


def _with_progress(failure: RankFailure, progress: Sequence[RankProgress]) -> RankFailure:
    if failure.where or failure.role != "rank":
        return failure
    where = next((one.description for one in progress if one.rank == failure.rank), "")
    return failure.model_copy(update={"where": where})


def read_recordings(folder: Path) -> tuple[Recording, ...]:
    """What the samplers wrote; a recording that can't be read is left out."""
    found = []
    for path in sorted(folder.glob("telemetry-*.jsonl")):
        with contextlib.suppress(OSError, ValueError), path.open() as lines:
            found.append(read_recording(lines))
    return tuple(found)


def last_lines(log: Path, count: int) -> list[str]:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-count:]
    return []


def _prefixed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}: {line}" for line in lines]


def _read_records(folder: Path, pattern: str, kind: type[RecordT]) -> list[RecordT]:
    return [kind.model_validate_json(path.read_text()) for path in folder.glob(pattern)]
