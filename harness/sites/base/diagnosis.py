"""Diagnoses how a trial ended, from what its processes left: which failed first, and in which step each rank was."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.case import SAMPLER_ROLE
from bench.core.exit_report import ExitReport
from bench.core.flight_record import FlightRecord, explain_hang
from bench.core.records import Condition, RankFailure, RankRecord
from bench.host.logs import MAX_ERROR_LENGTH, last_lines, printable_line, read_end
from bench.rank.nccl_log import find_warning
from bench.rank.progress import COUNTED, RankProgress, read_progress
from harness.sites.base.contract import TrialResult
from harness.sites.base.first_cause import describe_progress, description_of, determine_outcome, rank_of
from harness.sites.base.log_keeper import noisy_logs
from harness.sites.base.rank_files import read_recordings, read_records

TAIL_LINES = 20
STACK_LINES = 120
MAX_NAMED = 3
MAX_NCCL_LOGS = 64
NCCL_LOG = re.compile(r"nccl-([0-9]{1,7})\.log")


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
    unreadable: list[str] = []
    records = sorted(read_records(folder, "record-*.json", RankRecord, unreadable), key=lambda record: record.rank)
    progress = read_progress(folder)
    records = [record for record in records if not _ended_late(record, exit_report, progress)]
    reported = read_records(folder, "failure-*.json", RankFailure, unreadable)
    reported += [
        RankFailure(role="rank", rank=rank.rank, host="", error=rank.error, at=rank.since_s)
        for rank in progress
        if rank.error
    ]
    reported += _failures_of_observers(exit_report, reported)
    failures = tuple(_checked(failure, progress) for failure in sorted(reported, key=lambda failure: failure.at))
    outcome, reason = determine_outcome(exit_report, failures, progress)
    if outcome in ("ok", "failed") and unreadable:
        # A rank that left a spoilt record is the cause of what others report.
        reason = f"{unreadable[0]}; then {reason}" if reason else unreadable[0]
        outcome = "failed"
    if outcome in ("failed", "timeout") and (hang := _explain_hang(folder, exit_report, failures, progress)):
        reason = f"{reason}; {hang}"
    if outcome in ("failed", "timeout") and (warning := _nccl_warning(folder, failures)):
        reason = f"{reason}; {warning}"
    if lost:
        outcome, reason = "failed", describe_lost_node(lost[0], progress, ranks_on_a_node)
    if outcome in ("failed", "timeout") and exit_report.disk_full:
        reason = f"{reason}; the disk of {folder} was full"
    return TrialResult(
        outcome,
        reason,
        tuple(records),
        failures,
        () if outcome == "ok" else (*_log_tail(exit_report, unreadable), *_nccl_tail(folder, failures)),
        read_recordings(folder),
        conditions=(*noisy_logs(exit_report.dropped_log_bytes), *_left_running(exit_report)),
        suspended="; ".join(exit_report.suspended) or None,
    )


def _ended_late(record: RankRecord, exit_report: ExitReport, progress: Sequence[RankProgress]) -> bool:
    """Whether a rank was still in its window when the trial ended: a process that was stopped goes on for its stacks,
    and then others do. Progress is what it was before."""
    in_window = (rank.phase in COUNTED for rank in progress if rank.rank == record.rank)
    return bool(exit_report.stopped) and next(in_window, False)


def _explain_hang(
    folder: Path, exit_report: ExitReport, failures: Sequence[RankFailure], progress: Sequence[RankProgress]
) -> str | None:
    ended = {rank_of(process.title) for process in exit_report.failed}
    ended |= {failure.rank for failure in failures if failure.role == "rank"}
    running = [rank.rank for rank in progress if rank.rank not in ended]
    return explain_hang(read_records(folder, "flight-*.json", FlightRecord, []), running)


def _nccl_logs(folder: Path, failures: Sequence[RankFailure]) -> list[tuple[int, Path]]:
    """NCCL's logs by rank: those of ranks that failed first."""
    first = {failure.rank: number for number, failure in reversed(list(enumerate(failures)))}
    logs = [(int(match[1]), path) for path in folder.glob("nccl-*.log") if (match := NCCL_LOG.fullmatch(path.name))]
    return sorted(logs, key=lambda log: (first.get(log[0], len(first)), log[0]))[:MAX_NCCL_LOGS]


def _nccl_warning(folder: Path, failures: Sequence[RankFailure]) -> str | None:
    """What NCCL warned of, which its errors that reach Python may not say."""
    for rank, log in _nccl_logs(folder, failures):
        warning = find_warning(read_end(log))
        if warning is not None:
            known = any(warning in failure.error for failure in failures)
            return None if known else f"NCCL warned on rank {rank}: {warning}"
    return None


def _nccl_tail(folder: Path, failures: Sequence[RankFailure]) -> Iterator[str]:
    for rank, log in _nccl_logs(folder, failures)[:2]:
        yield from _prefixed(f"NCCL of rank {rank}", last_lines(log, TAIL_LINES))


def describe_lost_node(lost: LostNode, progress: Sequence[RankProgress], ranks_on_a_node: int) -> str:
    """``node 2 (n3) is gone: Slurm says NODE_FAIL; last seen: rank 2 in measured step 17``."""
    on_node = [rank for rank in progress if rank.rank // ranks_on_a_node == lost.node]
    last_seen = f"; last seen: {describe_progress(on_node)}" if on_node else ""
    return f"{lost.title} is gone: {lost.why}{last_seen}"


def _log_tail(exit_report: ExitReport, unreadable: Sequence[str]) -> tuple[str, ...]:
    """What people look at first: the stacks of stopped processes, the logs of failed ones, and the other stacks."""
    stacks = sorted(exit_report.stacks.items(), key=lambda item: item[0] not in exit_report.stopped)
    of_stopped = len(exit_report.stopped)
    tail = [line for title, lines in stacks[:of_stopped] for line in _prefixed(title, lines[:STACK_LINES])]
    for failed in exit_report.failed[:2]:
        tail += _prefixed(failed.title, last_lines(failed.log, TAIL_LINES))
    tail += [line for title, lines in stacks[of_stopped:] for line in _prefixed(title, lines[:STACK_LINES])]
    return (*tail, *unreadable)


def _left_running(exit_report: ExitReport) -> Iterator[Condition]:
    if found := exit_report.left_running:
        more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
        yield Condition(name="left_running", seen=f"{', '.join(found[:MAX_NAMED])}{more}")


def _failures_of_observers(exit_report: ExitReport, reported: Sequence[RankFailure]) -> Iterator[RankFailure]:
    """Of observers that did not observe to the end, and left no failure themselves."""
    known = {failure.rank for failure in reported if failure.role == SAMPLER_ROLE.name}
    for number, text in exit_report.lost_observers.items():
        if number not in known:
            yield RankFailure(role=SAMPLER_ROLE.name, rank=number, host="", error=text, at=time.time())


def _checked(failure: RankFailure, progress: Sequence[RankProgress]) -> RankFailure:
    """The failure with the place of its rank, and with texts that can be printed and stored: a rank wrote them."""
    where = failure.where or ((description_of(failure.rank, progress) or "") if failure.role == "rank" else "")
    return failure.model_copy(
        update={
            "where": printable_line(where),
            "error": printable_line(failure.error, MAX_ERROR_LENGTH),
            "tail": tuple(printable_line(line) for line in failure.tail[-TAIL_LINES:]),
        }
    )


def _prefixed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}: {line}" for line in lines]
