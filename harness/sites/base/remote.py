"""What sites share that run node agents: the agent's command, and the result of a trial from the agents' reports."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench.core.case import Case, Role
from bench.core.exit_report import ExitReport, FailedProcess, NodeReport
from bench.host.regular_files import read_regular
from bench.node.transfer import is_node_output
from harness.sites.base.contract import Job, TrialResult
from harness.sites.base.diagnosis import LostNode, diagnose
from harness.sites.base.rank_files import MAX_RECORD_BYTES

MARGIN_S = 30.0
"""How long after the time limit of a case the harness waits for the reports of its nodes."""
PORT_RANGE = (20_000, 29_999)
"""The ports at which rank 0 listens: below those that operating systems assign by themselves."""


def node_command(*arguments: str, python: str = sys.executable) -> list[str]:
    """The argument list of a node agent: ``python -m bench.node.agent`` with ``arguments`` (pure)."""
    return [python, "-m", "bench.node.agent", *arguments]


def feed_arguments(modules: Sequence[str] | None) -> list[str]:
    """The arguments of an agent that serves several trials (pure).

    Args:
        modules: What the backends of the trials name to be imported once, beside the frameworks; ``None``: all ranks
            run a program, and import nothing of ours.
    """
    return ["--feed", *([] if modules is None else [f"--preload={','.join(modules)}"])]


def needs_certificate(case: Case, roles: Sequence[Role]) -> bool:
    """Whether the agents of a trial have to be given a certificate (pure): that of a single node makes its own."""
    return case.nodes > 1 and any(role.certified for role in roles)


def rendezvous_port(seed: str) -> int:
    """A port for one trial, derived from ``seed``: two trials on one host seldom share it (pure)."""
    return random.Random(seed).randint(*PORT_RANGE)


def failed_start(reason: str) -> TrialResult:
    """The result of a trial that could not be started."""
    return TrialResult("failed", reason, (), (), ())


class UnstartedJob(Job):
    """A trial that could not be started: its site refused it, or can't be reached."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def wait(self, timeout_s: float) -> TrialResult:
        return failed_start(self.reason)

    def cancel(self) -> None:
        return


def read_node_reports(folder: Path) -> dict[int, NodeReport]:
    """The reports of the nodes that have left one, by node number."""
    reports = {}
    for path in folder.glob("node-*.json"):
        with suppress(OSError, ValueError):
            report = NodeReport.model_validate_json(read_regular(path, MAX_RECORD_BYTES).decode())
            if report.file == path.name:
                reports[report.facts.node] = report
    return reports


def gather_result(
    folder: Path,
    case: Case,
    lost: Sequence[LostNode] = (),
    *,
    agents: int | None = None,
    timed_out: bool = False,
    no_report_reason: str = "",
    log_tail: Sequence[str] = (),
    own_report: NodeReport | None = None,
) -> TrialResult:
    """The result of a trial, from what its node agents left in ``folder``.

    Args:
        folder: The trial's folder, with records, failures, logs and node reports.
        case: The case that was run.
        lost: Nodes that the site knows to be gone.
        agents: How many node agents report; by default one on each node of the case.
        timed_out: Whether the harness had to end the trial.
        no_report_reason: What the site knows of why a node left no report.
        log_tail: The last lines of the site's own log, kept where the trial did not succeed.
        own_report: The report of an agent in this process, which counts although it could not be written.
    """
    if not folder.is_dir():
        return failed_start(f"the trial's folder {folder} was removed while it ran")
    reports = read_node_reports(folder)
    if own_report is not None:
        reports[own_report.facts.node] = own_report
    exit_report = _merge_exit_reports(folder, case, reports.values(), timed_out=timed_out)
    result = diagnose(folder, exit_report, lost, case.ranks_on_a_node)
    problem = next(
        (f"node {node} ({report.facts.host}): {report.problem}" for node, report in reports.items() if report.problem),
        None,
    )
    unreported = sorted(set(range(agents or case.nodes)) - set(reports))
    if not lost and problem is not None:
        result = replace(result, outcome="failed", reason=problem)
    elif unreported and result.outcome == "ok":
        unreadable = os.path.lexists(folder / f"node-{unreported[0]}.json")
        what = "a report that can't be read" if unreadable else "no report"
        detail = f": {no_report_reason}" if no_report_reason else ""
        result = replace(result, outcome="failed", reason=f"node {unreported[0]} left {what}{detail}")
    if result.outcome != "ok":
        result = replace(result, log_tail=(*result.log_tail, *log_tail))
    return replace(result, nodes=tuple(reports[node].facts for node in sorted(reports)))


def _merge_exit_reports(folder: Path, case: Case, reports: Iterable[NodeReport], *, timed_out: bool) -> ExitReport:
    """The reports of all nodes as if it were one machine.

    A process that failed counts for more than the time limit that others reached while they waited for it.
    """
    exit_reports = [report.exit_report for report in reports if report.exit_report is not None]
    failed = sorted((process for report in exit_reports for process in report.failed), key=lambda process: process.at)
    return ExitReport(
        timed_out=not failed and (timed_out or any(report.timed_out for report in exit_reports)),
        timeout_s=case.timeout_s,
        failed=tuple(_with_local_log(folder, process) for process in failed),
        stopped=tuple(title for report in exit_reports for title in report.stopped),
        stacks={title: lines for report in exit_reports for title, lines in report.stacks.items()},
        stopped_at={title: at for report in exit_reports for title, at in report.stopped_at.items()},
        memory_limit=next((report.memory_limit for report in exit_reports if report.memory_limit), ""),
        cpu_limit_s=next((report.cpu_limit_s for report in exit_reports if report.cpu_limit_s is not None), None),
        lost_observers={number: text for report in exit_reports for number, text in report.lost_observers.items()},
        left_running=tuple(title for report in exit_reports for title in report.left_running),
        out_of_memory=any(report.out_of_memory for report in exit_reports),
        disk_full=any(report.disk_full for report in exit_reports),
        suspended=tuple(sentence for report in exit_reports for sentence in report.suspended),
        dropped_log_bytes={title: size for report in exit_reports for title, size in report.dropped_log_bytes.items()},
    )


def _with_local_log(folder: Path, failed: FailedProcess) -> FailedProcess:
    """The process with the path of its log in ``folder``, whatever that was on its node; no log of another name."""
    name = failed.log.name
    return replace(failed, log=folder / (name if is_node_output(name) else "unnamed.log"))


__all__ = [
    "MARGIN_S",
    "LostNode",
    "UnstartedJob",
    "failed_start",
    "feed_arguments",
    "gather_result",
    "needs_certificate",
    "node_command",
    "read_node_reports",
    "rendezvous_port",
]
