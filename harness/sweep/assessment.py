"""What the result of a trial amounts to: its outcome with a reason, and the conditions that may have disturbed it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.core.case import Case
from bench.core.completeness import inconsistency
from bench.core.records import Outcome, RankRecord, Trial
from bench.core.same_work import SameWork
from bench.host.running_code import sources_digest
from harness.sites.base.contract import TrialResult
from harness.sites.base.running_trial import RunningTrial
from harness.sweep.node_telemetry import cut_telemetry
from harness.sweep.program_amounts import with_total_amounts
from reports.analysis.conditions import find_conditions, missing_measurements
from reports.analysis.program_conditions import program_conditions
from reports.analysis.rank_resources import resource_problem
from reports.analysis.same_work import DIFFERENT_WORK, judge_same_work


def assess_trial(running: RunningTrial, result: TrialResult, case: Case, round_number: int, environment: str) -> Trial:
    """The trial as a value, with its outcome and the conditions on its nodes."""
    result = with_total_amounts(result, case)
    telemetry = cut_telemetry(result, case)
    outcome, reason, proof = assess_result(result, case)
    if problem := other_sources(result, sources_digest()):
        outcome, reason = "failed", problem if result.reason is None else f"{problem}; {result.reason}"
    conditions = result.conditions
    if outcome == "ok":
        ended = result.reason if result.outcome != "ok" else None
        found = (*find_conditions(result.ranks, telemetry), *missing_measurements(result.ranks, ended))
        conditions = (*conditions, *found, *program_conditions(case, result.ranks))
    serious = [condition for condition in conditions if condition.serious]
    if serious:
        outcome, reason = "invalid", f"contaminated: {serious[0].seen}"
    return Trial(
        case=case.without_program_files(),
        round=round_number,
        outcome=outcome,
        reason=reason,
        ranks=result.ranks,
        failures=result.failures,
        same_work=proof,
        environment=environment,
        started_at=running.started_at,
        wall_s=running.wall_s,
        log_tail=result.log_tail,
        telemetry=telemetry,
        conditions=conditions,
        link=result.link,
        nodes=result.nodes,
        cost=result.cost,
        cost_reason=result.cost_reason,
        sources=reported_sources(result, sources_digest()),
    )


def other_sources(result: TrialResult, expected: str) -> str | None:
    """Which process ran other sources than this command's, with the remedy, or ``None`` (pure).

    Args:
        result: How the trial ended. Records of an older version don't say what they ran.
        expected: The digest of this command's sources.
    """
    reported = [(f"rank {record.rank} on {record.host}", record.sources) for record in result.ranks]
    reported += [(f"node {node.node} ({node.host})", node.sources) for node in result.nodes]
    different = next((entry for entry in reported if entry[1] not in (None, expected)), None)
    if different is None:
        return None
    return (
        f"{different[0]} ran other sources ({different[1]}) than this command's ({expected}): "
        "install the same version there, or copy this checkout there"
    )


def reported_sources(result: TrialResult, expected: str) -> str | None:
    """The digest of the sources that the ranks ran (pure); ``None``: a rank did not say.

    A trial that left no record was started with the expected ones.
    """
    digests = {record.sources for record in result.ranks}
    if not digests:
        return expected
    return digests.pop() if len(digests) == 1 else None


def failed_after_window(result: TrialResult, case: Case) -> bool:
    """Whether a trial failed when all ranks had measured their window, and one was measuring more (pure).

    A failed measurement after the window never discards it.
    """
    present = [record.rank for record in result.ranks]
    unfinished = any(not record.complete for record in result.ranks)
    return result.outcome in ("failed", "timeout") and present == list(range(case.ranks)) and unfinished


def assess_result(result: TrialResult, case: Case) -> tuple[Outcome, str | None, SameWork | None]:
    """Outcome, reason and same-work verdict of a trial (pure): ok where all ranks are present and did the same work."""
    if result.outcome != "ok" and not failed_after_window(result, case):
        return result.outcome, result.reason, None
    if problem := inconsistency(result.ranks, case.ranks):
        return "failed", problem, None
    if reason := _not_finite_reason(result.ranks):
        return "failed", reason, None
    proof = judge_same_work(result.ranks)
    if proof.verdict == "different":
        return "invalid", f"{DIFFERENT_WORK}: {proof.reason}", proof
    if problem := resource_problem(case, result.ranks, result.nodes):
        return "invalid", f"not as planned: {problem}", proof
    return "ok", None, proof


def _not_finite_reason(ranks: Sequence[RankRecord]) -> str | None:
    """Which result of which rank was no finite number, the earliest step first (pure)."""
    found = [(record.not_finite, record.rank) for record in ranks if record.not_finite is not None]
    if not found:
        return None
    first, rank = min(found, key=lambda one: (one[0].step or math.inf, one[1]))
    return f"rank {rank}: {first.description}" if len(ranks) > 1 else first.description
