"""What the ranks of a user's program process together, from what each of them has counted or printed."""

from __future__ import annotations

from dataclasses import replace

from bench.core.case import Case
from bench.core.program_run import ProgramRun, total_amount
from bench.rank.program.failures import never_printed, nothing_counted, printed_by_some, printed_no_rate
from bench.rank.program.options import options_of
from harness.sites.base.contract import TrialResult


def with_total_amounts(result: TrialResult, case: Case) -> TrialResult:
    """The result with the same amount of work per step in all records (pure); failed where it is not known.

    A rank of a program knows its own part only: this project has no say in what the ranks exchange.

    Args:
        result: How the trial ended.
        case: Its case; one of other work is left as it is.
    """
    runs = [record.program for record in result.ranks if record.program is not None]
    if not runs or len(runs) < len(result.ranks) or len(runs) != case.ranks:
        return result
    step_s = max(record.mean_step_s for record in result.ranks)
    amount = total_amount(runs, step_s)
    if amount is not None:
        ranks = tuple(record.model_copy(update={"amount_per_step": amount}) for record in result.ranks)
        return replace(result, ranks=ranks)
    if result.outcome != "ok":
        return result
    return replace(result, outcome="failed", reason=_unknown_reason(runs, case))


def _unknown_reason(runs: list[ProgramRun], case: Case) -> str:
    name = case.program.name if case.program is not None else case.workload
    if runs[0].counted != "printed":
        return nothing_counted(name)
    metric, silent = options_of(case).metric, [rank for rank, run in enumerate(runs) if not run.printed]
    if len(silent) == len(runs):
        return never_printed(name, metric)
    for rank, run in enumerate(runs):
        if run.printed and min(run.printed) <= 0:
            return printed_no_rate(name, metric, rank, min(run.printed))
    return printed_by_some(name, metric, silent[0])
