"""What sites beyond this machine have in common: what runs on their nodes, and what is made of what nodes leave."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from bench.core.case import Case
from bench.core.exit_report import ExitReport, FailedProcess, NodeReport
from harness.sites.base.contract import Job, TrialResult
from harness.sites.base.diagnosis import LostNode, diagnose

MARGIN_S = 30.0
"""How long after a case's own time the harness waits for its nodes' own words."""
PORT_RANGE = (20_000, 29_999)
"""Where rank 0 may be met: below the ports that systems hand out by themselves."""


def node_command(*arguments: str, python: str = sys.executable) -> list[str]:
    """The argument list that each node is started with."""
    return [python, "-m", "bench.node.agent", *arguments]


def rendezvous_port(seed: str) -> int:
    """A port for one trial, by its name: two trials on one host seldom share it (pure)."""
    return random.Random(seed).randint(*PORT_RANGE)


def failed_start(reason: str) -> TrialResult:
    return TrialResult("failed", reason, (), (), ())


class UnstartedJob(Job):
    """A trial that could not be started: its site refused it, or isn't there."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def wait(self, timeout_s: float) -> TrialResult:
        return failed_start(self.reason)

    def cancel(self) -> None:
        return


def read_node_ends(folder: Path) -> dict[int, NodeReport]:
    """The last words of the nodes that have spoken, by node."""
    found = {}
    for path in folder.glob("node-*.json"):
        with suppress(OSError, ValidationError):
            end = NodeReport.model_validate_json(path.read_text())
            found[end.facts.node] = end
    return found


def gather_result(
    folder: Path,
    case: Case,
    lost: Sequence[LostNode] = (),
    *,
    agents: int | None = None,
    timed_out: bool = False,
    silence_reason: str = "",
    log_tail: Sequence[str] = (),
) -> TrialResult:
    """The result of a trial, from what its node agents left in ``folder``.

    Args:
        folder: The trial's folder, with records, failures, logs and node reports.
        case: The case that was run.
        lost: Nodes that the site knows to be gone.
        agents: How many node agents report; by default one on each node of the case.
        timed_out: Whether the harness had to end the trial.
        silence_reason: What the site knows of why a node left no report.
        log_tail: The last lines of the site's own log, kept where the trial did not succeed.
    """
    ends = read_node_ends(folder)
    result = diagnose(folder, _merge_exit_reports(folder, case, ends, timed_out=timed_out), lost, case.ranks_on_a_node)
    problem = next(
        (f"node {node} ({end.facts.host}): {end.problem}" for node, end in ends.items() if end.problem), None
    )
    silent = sorted(set(range(agents or case.nodes)) - set(ends))
    if not lost and problem is not None:
        result = replace(result, outcome="failed", reason=problem)
    elif silent and result.outcome == "ok":
        detail = f": {silence_reason}" if silence_reason else ""
        result = replace(result, outcome="failed", reason=f"node {silent[0]} ended without a word{detail}")
    if result.outcome != "ok":
        result = replace(result, log_tail=(*result.log_tail, *log_tail))
    return replace(result, nodes=tuple(ends[node].facts for node in sorted(ends)))


def _merge_exit_reports(folder: Path, case: Case, ends: dict[int, NodeReport], *, timed_out: bool) -> ExitReport:
    """What all nodes saw, as if it had been one machine. A process that ended badly says more than the time that the
    others waited for it."""
    scenes = [end.exit_report for end in ends.values() if end.exit_report is not None]
    failed = sorted(
        (gone_process for scene in scenes for gone_process in scene.failed), key=lambda gone_process: gone_process.at
    )
    return ExitReport(
        timed_out=not failed and (timed_out or any(scene.timed_out for scene in scenes)),
        timeout_s=case.timeout_s,
        failed=tuple(_with_local_log(folder, gone_process) for gone_process in failed),
        stopped=tuple(title for scene in scenes for title in scene.stopped),
        stacks={title: lines for scene in scenes for title, lines in scene.stacks.items()},
        out_of_memory=any(scene.out_of_memory for scene in scenes),
    )


def _with_local_log(folder: Path, failed: FailedProcess) -> FailedProcess:
    """Its log lies here by now, whatever the path on its node was."""
    return replace(failed, log=folder / failed.log.name)


__all__ = [
    "MARGIN_S",
    "LostNode",
    "UnstartedJob",
    "failed_start",
    "gather_result",
    "node_command",
    "read_node_ends",
    "rendezvous_port",
]
