"""A trial on Slurm: waits for its start and its end, notices lost nodes, and cancels what can't start or takes too
long."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.host.certificate import CERTIFICATE_FILE
from bench.host.logs import last_lines
from bench.node.launchers.srun import first_failed_task, hosts_of_failed_tasks, killed_tasks
from bench.rank.progress import read_progress
from harness.sites.base.contract import Job, TrialRequest, TrialResult
from harness.sites.base.first_cause import NO_RECORD
from harness.sites.base.remote import LostNode, failed_start, gather_result, read_node_reports
from harness.sites.slurm.batch_script import (
    BEGAN_FILE,
    ENDED_FILE,
    HOSTS_FILE,
    LOG_FILES,
    NODES_LOG,
    RANKS_LOG,
    ROUND_LOG,
)
from harness.sites.slurm.client import SlurmClient, SlurmJobState, SlurmUnavailable
from harness.sites.slurm.fed_agents import AGENTS_STEP
from harness.sites.slurm.options import SlurmOptions, SlurmTimeouts

MIN_QUERY_INTERVAL_S, MAX_QUERY_INTERVAL_S, QUERY_INTERVAL_SHARE = 0.2, 5.0, 0.05
"""Slurm is queried at intervals of a share of the trial's time so far, within limits."""
TAIL_LINES = 20
ENDED_SILENTLY = re.compile(rf"rank \d+ {NO_RECORD}")


@dataclass
class Submission:
    """A job in Slurm. ``shared``: it runs several trials."""

    number: str
    shared: bool
    cancel_reason: str | None = None
    """Why the whole job was cancelled, which is the reason of every trial that had not started."""


class SlurmJob(Job):
    """A trial of a job in Slurm.

    Args:
        trial: Its folder is on a disk that the nodes share.
        submission: The job, which other trials may share.
        options: Of the site.
        client: Slurm's commands.
        timeouts: How long the nodes and the disk may take.
    """

    def __init__(
        self,
        trial: TrialRequest,
        submission: Submission,
        options: SlurmOptions,
        client: SlurmClient,
        timeouts: SlurmTimeouts,
    ) -> None:
        self.case, self.folder = trial.case, trial.folder
        self.submission, self.options, self.client, self.timeouts = submission, options, client, timeouts
        self.handle = self.number = submission.number
        self.job_state = SlurmJobState("PENDING")
        self.node_trouble: dict[str, str] = {}
        """What Slurm has reported of unreported nodes: they may be back by the time the trial has ended."""
        self._submitted = time.monotonic()
        self._queried = 0.0

    def wait(self, timeout_s: float) -> TrialResult:
        # The trials of one job are waited for in turn.
        if self.submission.cancel_reason and not self._has_ended():
            self._forget_certificate()
            return failed_start(self.submission.cancel_reason)
        began: float | None = None
        cannot_start_since: float | None = None
        while not self._is_over():
            now = time.monotonic()
            if began is None and (self.folder / BEGAN_FILE).exists():
                began = now
            if began is not None and now > began + self.timeouts.step_limit_s(self.case) + self.timeouts.grace_s:
                self._end_this_trial()
                return self._result(timed_out=True)
            if self.job_state.is_pending:
                cannot_start_since = (cannot_start_since or now) if self.job_state.cannot_start else None
                self.submission.cancel_reason = self._give_up_reason(now, cannot_start_since)
                if self.submission.cancel_reason:
                    self.cancel()
                    return failed_start(self.submission.cancel_reason)
            time.sleep(self.timeouts.poll_s)
        return self._result(timed_out=self.job_state.state == "TIMEOUT" or self._was_killed())

    @property
    def own_logs(self) -> Sequence[Path]:
        return [self.folder / name for name in LOG_FILES]

    def cancel(self) -> None:
        """Cancel the whole job, its other trials included, and wait until it has left the queue."""
        self._cancel(self.number)
        self._wait_to_leave_queue()
        self._forget_certificate()

    def _forget_certificate(self) -> None:
        """Remove the trial's private key, which the batch script does where it comes to its end."""
        with suppress(OSError):
            (self.folder / CERTIFICATE_FILE).unlink(missing_ok=True)

    def _cancel(self, *names: str) -> None:
        # Waiting for the job to leave the queue repeats this; the script's own limits end what can't be cancelled.
        with suppress(SlurmUnavailable):
            self.client.cancel(*names)

    def _end_this_trial(self) -> None:
        """Cancel this trial's steps, so that the job's other trials run; the job, where that does not help."""
        if self.submission.shared:
            with suppress(SlurmUnavailable):
                if steps := self.client.step_ids(self.number, (self.folder.name, AGENTS_STEP)):
                    self._cancel(*steps)
            deadline = time.monotonic() + self.timeouts.file_delay_s
            while time.monotonic() < deadline:
                if self._has_ended():
                    return
                time.sleep(self.timeouts.poll_s)
            self.submission.cancel_reason = (
                f"cancelled with {self.folder.name}, a trial of the same job that did not end"
            )
        self.cancel()

    def _has_ended(self) -> bool:
        return (self.folder / ENDED_FILE).exists()

    def _is_over(self) -> bool:
        return self._has_ended() or (self._query() and (self.job_state.over or self._only_lost_nodes_unreported()))

    def _query(self) -> bool:
        """Update the job's state from Slurm; ``False`` where that was done just now."""
        now = time.monotonic()
        interval = min(MAX_QUERY_INTERVAL_S, max(MIN_QUERY_INTERVAL_S, QUERY_INTERVAL_SHARE * (now - self._submitted)))
        if now - self._queried < interval:
            return False
        self._queried = now
        # A controller that restarts keeps its jobs.
        with suppress(SlurmUnavailable):
            self.job_state = self.client.query_job(self.number)
        return True

    def _only_lost_nodes_unreported(self) -> bool:
        """Whether all nodes have reported but those that Slurm reports as failed."""
        ends = read_node_reports(self.folder)
        unreported = self._unreported_nodes()
        if not ends or not unreported:
            return False
        self.node_trouble |= self.client.node_problems([name for name in unreported.values() if name])
        return all(name in self.node_trouble for name in unreported.values())

    def _unreported_nodes(self) -> dict[int, str]:
        """The host names of the nodes without a report, by node; an empty name where it is not known."""
        ends = read_node_reports(self.folder)
        listed: list[str] = []
        with suppress(OSError):
            listed = (self.folder / HOSTS_FILE).read_text(errors="replace").splitlines()
        unreported = [node for node in range(self.case.nodes) if node not in ends]
        if len(listed) == self.case.nodes:
            return {node: listed[node] for node in unreported}
        # The job has more nodes than the trial: the unreported ones are among those without a report.
        reported = {end.facts.host for end in ends.values()}
        names = [*(name for name in listed if name not in reported), *("" for _ in unreported)]
        return dict(zip(unreported, names, strict=False))

    def _give_up_reason(self, now: float, cannot_start_since: float | None) -> str | None:
        if cannot_start_since is not None and now - cannot_start_since >= self.options.patience_s:
            return f"it can't start: {self.job_state.description}"
        waited = now - self._submitted
        if waited > self.options.queue_timeout_s:
            return (
                f"it waited {waited:.0f} s in the queue: {self.job_state.description}; to wait longer: "
                "--set slurm.queue_timeout_s=…"
            )
        return None

    def _wait_to_leave_queue(self) -> None:
        """Wait until the job has left the queue, or only completes; cancel it where it does not by itself."""
        for _ in range(2):
            deadline = time.monotonic() + self.timeouts.leave_queue_s
            while time.monotonic() < deadline:
                if self._query() and (self.job_state.over or self.job_state.state == "COMPLETING"):
                    return
                time.sleep(self.timeouts.poll_s)
            self._cancel(self.number)

    def _result(self, *, timed_out: bool) -> TrialResult:
        self._forget_certificate()
        if not self.submission.shared:
            self._wait_to_leave_queue()
        lost = self._lost(timed_out=timed_out)
        tail = [f"slurm: {line}" for file in self.own_logs for line in last_lines(file, TAIL_LINES)]
        if self.submission.shared and not tail:
            # The script has not come to this trial, or could start nothing for it.
            file = self.folder.parent / ROUND_LOG.replace("%j", self.number)
            tail = [f"slurm: {line}" for line in last_lines(file, TAIL_LINES)]
        reason = "; ".join([*error_messages(tail)[:1], self.job_state.description])
        result = gather_result(
            self.folder, self.case, lost, timed_out=timed_out, no_report_reason=reason, log_tail=tail
        )
        if result.outcome == "ok" and len(result.ranks) < self.case.ranks:
            # The agents were asked to end, and report nothing else.
            return replace(result, outcome="failed", reason=reason, log_tail=(*result.log_tail, *tail))
        return replace(result, reason=self._first_failed_rank() or result.reason) if is_unexplained(result) else result

    def _first_failed_rank(self) -> str | None:
        """The rank that srun reports first: PMIx ends the others within moments, so that the agents can't tell."""
        task = first_failed_task(last_lines(self.folder / RANKS_LOG, 10**4))
        if task is None:
            return None
        where = next((f" {one.description}" for one in read_progress(self.folder) if one.rank == task.rank), "")
        return f"rank {task.rank} ended{where}: srun reports '{task.message}' on {task.host}"

    def _lost(self, *, timed_out: bool) -> list[LostNode]:
        """The nodes without a report that were not killed at the time limit."""
        began, hosts_reported = time.monotonic(), self._hosts_reported()
        while (unreported := self._unreported_nodes()) and not self._only_lost_nodes_unreported():
            expected = has_begun(self.folder) and not hosts_reported.issuperset(unreported.values())
            if time.monotonic() - began > (self.timeouts.file_delay_s if expected else self.timeouts.leave_queue_s):
                break
            time.sleep(MIN_QUERY_INTERVAL_S)
        ends = read_node_reports(self.folder)
        if not ends:
            return []
        # Nodes that were killed at the limit have no report either.
        timed_out = timed_out or any(end.exit_report is not None and end.exit_report.timed_out for end in ends.values())
        hosts_reported |= set(unreported.values()) if timed_out else set()
        killed = {} if timed_out else killed_tasks(last_lines(self.folder / NODES_LOG, 10**4))
        reasons = {node: self._loss_reason(name, hosts_reported, killed) for node, name in unreported.items()}
        return [LostNode(node, unreported[node] or "?", reason) for node, reason in reasons.items() if reason]

    def _hosts_reported(self) -> set[str]:
        return hosts_of_failed_tasks([line for name in LOG_FILES for line in last_lines(self.folder / name, 10**4)])

    def _loss_reason(self, host: str, hosts_reported: Collection[str], killed: Mapping[str, str]) -> str | None:
        if host in self.node_trouble:
            return self.node_trouble[host]
        if self.job_state.state == "NODE_FAIL":
            return self.job_state.description
        if host in killed:
            return f"its agent was killed (srun reports '{killed[host]}')"
        return None if host in hosts_reported else "it left no report, and srun did not see it end"

    def _was_killed(self) -> bool:
        """Whether the script killed the trial at its limit, before all nodes had reported."""
        try:
            took_s = (self.folder / ENDED_FILE).stat().st_mtime - (self.folder / BEGAN_FILE).stat().st_mtime
        except OSError:
            return False
        limit_s = int(self.timeouts.step_limit_s(self.case))
        return took_s >= limit_s and len(read_node_reports(self.folder)) < self.case.nodes


def error_messages(lines: Sequence[str]) -> list[str]:
    """The error messages of Slurm's programs among the lines of their output (pure)."""
    return [line.partition("error: ")[2] for line in lines if "error: " in line]


def is_unexplained(result: TrialResult) -> bool:
    """Whether nothing more is known than that an MPI rank was gone."""
    return result.outcome == "failed" and ENDED_SILENTLY.match(result.reason or "") is not None


def has_begun(folder: Path) -> bool:
    return (folder / BEGAN_FILE).exists()
