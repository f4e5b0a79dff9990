"""A trial on Slurm: waits for its turn and its end, sees nodes that went without a word, ends what takes too long."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.case import Case
from bench.node.launchers.srun import first_failed_task, hosts_of_failed_tasks
from bench.rank.progress import read_progress
from harness.sites.base.contract import Job, TrialRequest, TrialResult
from harness.sites.base.diagnosis import last_lines
from harness.sites.base.remote import LostNode, failed_start, gather_result, read_node_ends
from harness.sites.slurm import client
from harness.sites.slurm.batch_script import (
    BEGAN_FILE,
    ENDED_FILE,
    HOSTS_FILE,
    LOG_FILES,
    RANKS_LOG,
    SlurmOptions,
    step_limit_s,
)
from harness.sites.slurm.client import SlurmJobState, SlurmUnavailable

FOLDER_POLL_S = 0.1
"""How often the trial's folder is looked at."""
MIN_QUERY_INTERVAL_S, MAX_QUERY_INTERVAL_S, QUERY_INTERVAL_SHARE = 0.2, 5.0, 0.05
"""Slurm is asked for news at such distances: a share of how long the trial has taken so far, within limits."""
GRACE_S = 15.0
"""How much later than the script itself this process ends what takes too long."""
LEAVE_QUEUE_S = 5.0
"""How long is waited for a job to leave, and for the files of nodes whose end was heard of."""
FILE_DELAY_S = 30.0
"""How long is waited for the files of other nodes: a shared disk may show them that late."""
TAIL_LINES = 20
ENDED_SILENTLY = re.compile(r"rank \d+ ended without a word")


@dataclass
class Submission:
    """A job of Slurm's, of one trial or of several (``shared``)."""

    number: str
    shared: bool
    cancel_reason: str | None = None
    """Why we ended all of it: what holds for every trial that had not begun."""


class SlurmJob(Job):
    """A trial of a job of Slurm's."""

    def __init__(self, trial: TrialRequest, submission: Submission, options: SlurmOptions) -> None:
        self.case, self.folder = trial.case, trial.folder
        self.submission, self.options = submission, options
        self.handle = self.number = submission.number
        self.job_state = SlurmJobState("PENDING")
        self.node_trouble: dict[str, str] = {}
        """What Slurm has said of nodes while they were silent: they may be back by the time the trial has ended."""
        self._submitted = time.monotonic()
        self._queried = 0.0

    def wait(self, timeout_s: float) -> TrialResult:
        # Trials of one job are waited for one after the other.
        if self.submission.cancel_reason and not self._has_ended():
            return failed_start(self.submission.cancel_reason)
        began: float | None = None
        cannot_start_since: float | None = None
        while not self._is_over():
            now = time.monotonic()
            if began is None and (self.folder / BEGAN_FILE).exists():
                began = now
            if began is not None and now > began + step_limit_s(self.case) + GRACE_S:
                self._end_this_trial()
                return self._result(timed_out=True)
            if self.job_state.is_pending:
                cannot_start_since = (cannot_start_since or now) if self.job_state.cannot_start else None
                self.submission.cancel_reason = self._give_up_reason(now, cannot_start_since)
                if self.submission.cancel_reason:
                    self.cancel()
                    return failed_start(self.submission.cancel_reason)
            time.sleep(FOLDER_POLL_S)
        return self._result(timed_out=self.job_state.state == "TIMEOUT" or was_ended_by_force(self.folder, self.case))

    def cancel(self) -> None:
        """End the whole job, other trials of it included, and see it leave the queue."""
        self._cancel(self.number)
        self._wait_to_leave_queue()

    def _cancel(self, *names: str) -> None:
        # Who waits for the job to leave asks again; the script's own limits end what nobody could cancel.
        with suppress(SlurmUnavailable):
            client.cancel(*names)

    def _end_this_trial(self) -> None:
        """End this trial: its steps, so that the job's other trials have their turn; the job if that does not help."""
        if self.submission.shared:
            with suppress(SlurmUnavailable):
                if steps := client.step_ids(self.number, self.folder.name):
                    self._cancel(*steps)
            deadline = time.monotonic() + FILE_DELAY_S
            while time.monotonic() < deadline:
                if self._has_ended():
                    return
                time.sleep(FOLDER_POLL_S)
            self.submission.cancel_reason = f"ended with a trial of the same job that would not end, {self.folder.name}"
        self.cancel()

    def _has_ended(self) -> bool:
        return (self.folder / ENDED_FILE).exists()

    def _is_over(self) -> bool:
        return self._has_ended() or (self._query() and (self.job_state.over or self._only_lost_nodes_unreported()))

    def _query(self) -> bool:
        """Ask Slurm for news, unless it was asked just now."""
        now = time.monotonic()
        interval = min(MAX_QUERY_INTERVAL_S, max(MIN_QUERY_INTERVAL_S, QUERY_INTERVAL_SHARE * (now - self._submitted)))
        if now - self._queried < interval:
            return False
        self._queried = now
        # A controller that is being restarted loses no job.
        with suppress(SlurmUnavailable):
            self.job_state = client.query_job(self.number)
        return True

    def _only_lost_nodes_unreported(self) -> bool:
        """Whether all nodes have said their last word but those that Slurm says are gone."""
        ends = read_node_ends(self.folder)
        unreported = self._unreported_nodes()
        if not ends or not unreported:
            return False
        self.node_trouble |= client.node_problems([name for name in unreported.values() if name])
        return all(name in self.node_trouble for name in unreported.values())

    def _unreported_nodes(self) -> dict[int, str]:
        """The names of the nodes that have left no last word, by node; empty where that is not known."""
        ends = read_node_ends(self.folder)
        listed = last_lines(self.folder / HOSTS_FILE, 10**6)
        unreported = [node for node in range(self.case.nodes) if node not in ends]
        if len(listed) == self.case.nodes:
            return {node: listed[node] for node in unreported}
        # In a job with more nodes than the trial has, they are among those that nobody was.
        reported = {end.facts.host for end in ends.values()}
        names = [*(name for name in listed if name not in reported), *("" for _ in unreported)]
        return dict(zip(unreported, names, strict=False))

    def _give_up_reason(self, now: float, cannot_start_since: float | None) -> str | None:
        if cannot_start_since is not None and now - cannot_start_since >= self.options.patience_s:
            return f"it would never have begun: {self.job_state.said}"
        waited = now - self._submitted
        if waited > self.options.queue_timeout_s:
            return (
                f"waited {waited:.0f} s in the queue: {self.job_state.said}; more time: --set slurm.queue_timeout_s=…"
            )
        return None

    def _wait_to_leave_queue(self) -> None:
        """Wait until the job has left the queue, or only tidies up; one that would not go by itself is cancelled."""
        for _ in range(2):
            deadline = time.monotonic() + LEAVE_QUEUE_S
            while time.monotonic() < deadline:
                if self._query() and (self.job_state.over or self.job_state.state == "COMPLETING"):
                    return
                time.sleep(FOLDER_POLL_S)
            self._cancel(self.number)

    def _result(self, *, timed_out: bool) -> TrialResult:
        if not self.submission.shared:
            self._wait_to_leave_queue()
        lost = self._lost(timed_out=timed_out)
        tail = [f"slurm: {line}" for name in LOG_FILES for line in last_lines(self.folder / name, TAIL_LINES)]
        why = "; ".join([*error_messages(tail)[:1], self.job_state.said])
        result = gather_result(self.folder, self.case, lost, timed_out=timed_out, silence_reason=why, log_tail=tail)
        if result.outcome == "ok" and len(result.ranks) < self.case.ranks:
            # The nodes were told to end, and say no more than that.
            return replace(result, outcome="failed", reason=why, log_tail=(*result.log_tail, *tail))
        return replace(result, reason=self._first_failed_rank() or result.reason) if is_unexplained(result) else result

    def _first_failed_rank(self) -> str | None:
        """The rank that srun saw end badly first: PMIx ends the others within moments, so that nodes can't tell."""
        task = first_failed_task(last_lines(self.folder / RANKS_LOG, 10**4))
        if task is None:
            return None
        where = next((f" {one.description}" for one in read_progress(self.folder) if one.rank == task.rank), "")
        return f"rank {task.rank} ended{where}: srun says '{task.message}' of {task.host}"

    def _lost(self, *, timed_out: bool) -> list[LostNode]:
        """The nodes that left no word and did not live to be ended."""
        began, hosts_reported = time.monotonic(), self._hosts_reported()
        while (unreported := self._unreported_nodes()) and not self._only_lost_nodes_unreported():
            expected = has_begun(self.folder) and not hosts_reported.issuperset(unreported.values())
            if time.monotonic() - began > (FILE_DELAY_S if expected else LEAVE_QUEUE_S):
                break
            time.sleep(MIN_QUERY_INTERVAL_S)
        ends = read_node_ends(self.folder)
        if not ends:
            return []
        # Nodes that were ended by force at the limit are silent too.
        timed_out = timed_out or any(end.exit_report is not None and end.exit_report.timed_out for end in ends.values())
        hosts_reported |= set(unreported.values()) if timed_out else set()
        whys = {node: self._loss_reason(name, hosts_reported) for node, name in unreported.items()}
        return [LostNode(node, unreported[node] or "?", why) for node, why in whys.items() if why]

    def _hosts_reported(self) -> set[str]:
        return hosts_of_failed_tasks([line for name in LOG_FILES for line in last_lines(self.folder / name, 10**4)])

    def _loss_reason(self, host: str, hosts_reported: Collection[str]) -> str | None:
        if host in self.node_trouble:
            return self.node_trouble[host]
        if self.job_state.state == "NODE_FAIL":
            return self.job_state.said
        return None if host in hosts_reported else "it left no word, and srun did not hear of its end"


def error_messages(lines: Sequence[str]) -> list[str]:
    """What Slurm's programs called errors (pure)."""
    return [line.partition("error: ")[2] for line in lines if "error: " in line]


def is_unexplained(result: TrialResult) -> bool:
    """Whether all that is known is that an MPI rank was gone."""
    return result.outcome == "failed" and ENDED_SILENTLY.match(result.reason or "") is not None


def has_begun(folder: Path) -> bool:
    return (folder / BEGAN_FILE).exists()


def was_ended_by_force(folder: Path, case: Case) -> bool:
    """Whether the script ended the trial at its limit, before all nodes had said their last word."""
    try:
        took_s = (folder / ENDED_FILE).stat().st_mtime - (folder / BEGAN_FILE).stat().st_mtime
    except OSError:
        return False
    return took_s >= int(step_limit_s(case)) and len(read_node_ends(folder)) < case.nodes
