"""A cell is a case over its trials: the values that the table, the page and the JSON of a sweep are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.gradients import Gradients, ShardedUnits
from bench.core.machine import NodeFacts
from bench.core.nccl_report import NcclReport
from bench.core.records import Condition, Link, Outcome, RankFailure, Trial
from bench.core.same_work import SameWork
from bench.core.update_timing import UpdateTiming
from reports.analysis import formatting
from reports.analysis.case_summary import NO_TRIALS, CaseSummary, summarize_case
from reports.analysis.case_titles import CaseLabels, case_labels, with_batch
from reports.analysis.cell_details import (
    Coverage,
    Decomposition,
    MessageCell,
    ReadingCell,
    decompose,
)
from reports.analysis.energy_errors import EnergyError, worst_errors
from reports.analysis.flags import cell_flags, claim_problem, is_other_scaling
from reports.analysis.launch_bound import LaunchBound
from reports.analysis.placement import curve_family
from reports.analysis.program_runs import ProgramSummary
from reports.analysis.reported_work import compare_reported
from reports.analysis.roofline import Roofline
from reports.analysis.same_work import DIFFERENT_WORK
from reports.analysis.stats import Estimate, half_width, speedup_and_efficiency
from reports.analysis.step_times import StepTimes
from reports.analysis.timeline import Timeline
from reports.analysis.trial_measures import TrialMeasures


class CellLabels(CaseLabels):
    """The titles of a cell's case, and its numbers with their 95 % intervals, as text."""

    throughput: str
    """With its unit."""
    step: str
    speedup: str
    efficiency: str
    flags: str
    """``–`` without any."""


class Cell(FrozenModel):
    """A case over its trials. Unknown values are ``None``; :attr:`reason` and :attr:`scaling_reason` say why."""

    case: Case
    outcome: Outcome
    reason: str | None = None
    flags: tuple[str, ...] = ()
    trials: int = 0
    throughput: Estimate | None = None
    measures: tuple[TrialMeasures, ...] = Field(default=(), exclude=True, repr=False)
    """The numbers of each successful trial."""
    rates: tuple[float, ...] = ()
    """The throughput of each successful trial, in units of work per second."""
    step_s: Estimate | None = None
    host_step_s: Estimate | None = None
    """How long the host takes to enqueue a step; ``None`` where it computes the steps itself, and in old records."""
    speedup: Estimate | None = None
    efficiency: Estimate | None = None
    scaling_reason: str | None = None
    same_work: SameWork | None = None
    device: str | None = None
    link: Link | None = None
    """The links between the ranks, where the site shapes links: the slowest of its trials."""
    settings: dict[str, str] = Field(default={})
    variables: dict[str, str] | None = None
    """The environment variables of its ranks that change what is measured; ``None``: unknown."""
    readings: tuple[ReadingCell, ...] = ()
    usage: tuple[ReadingCell, ...] = ()
    """The usage of ranks, hosts and GPUs during the window, over the trials."""
    energy_errors: tuple[EnergyError, ...] = ()
    """The largest errors of the readings of energy among :attr:`usage`."""
    coverage: Coverage | None = None
    update_timings: tuple[UpdateTiming, ...] = ()
    """How often the values of sampled readings change, and over what time they are means, where that is known."""
    conditions: tuple[Condition, ...] = ()
    """Conditions that may have disturbed its trials."""
    contaminated: int = 0
    """The number of trials that were excluded for serious conditions."""
    messages: tuple[MessageCell, ...] = ()
    gradients: Gradients | None = None
    """What a rank exchanges in a step, where that is known."""
    sharded: ShardedUnits | None = None
    """How the model is sharded, where it is and that is known."""
    step_times: tuple[StepTimes, ...] = ()
    """By rank, over the steps of all successful trials."""
    timelines: tuple[Timeline, ...] = ()
    """The timelines of one trial's devices."""
    machinery: str | None = None
    """How the backend's implementation differs from the others'."""
    decomposition: Decomposition | None = None
    decomposition_reason: str | None = None
    """Why the step could not be decomposed, where that was requested."""
    device_busy_s: Estimate | None = None
    """How long a step would take if no GPU waited for its host; ``None`` on CPUs, and where it is unknown."""
    device_busy_reason: str | None = None
    launch_bound: LaunchBound | None = None
    """The host can't feed the GPU; ``None``: it can, or that is unknown."""
    roofline: Roofline | None = None
    roofline_reason: str | None = "the cell has no number"
    nccl: NcclReport | None = None
    """How NCCL connects its ranks; ``None``: it does not, or :attr:`nccl_reason` says why that is unknown."""
    nccl_reason: str | None = None
    program: ProgramSummary | None = None
    """How a user's own program was seen and ran; ``None`` of other work, and without a successful trial."""
    failures: tuple[RankFailure, ...] = ()
    """The failures of its first unsuccessful trial: rank, exception, last lines."""
    log_tail: tuple[str, ...] = ()
    hosts: tuple[NodeFacts, ...] = ()
    """The machines of its trials, other than the harness's own."""
    cost: Estimate | None = None
    """The cost of a trial, in the unit of the given price; ``None`` where it is unknown or none was billed."""
    cost_per_unit: tuple[float, float] | None = None
    """The lower and upper bound, see :mod:`reports.analysis.cell_details`."""
    cost_reason: str | None = None
    """Why a cost is unknown, where the site bills its trials."""
    labels: CellLabels = Field(default_factory=lambda fields: _cell_labels(fields), exclude=True, repr=False)

    def with_case(self, **changes: Any) -> Self:
        """The same cell, with other fields of its case."""
        case = self.case.model_copy(update=changes)
        labels = self.labels.model_copy(update=case_labels(case).model_dump())
        return self.model_copy(update={"case": case, "labels": labels})

    def with_flag(self, flag: str) -> Self:
        """The same cell with a further flag."""
        flags = (*self.flags, flag)
        labels = self.labels.model_copy(update={"flags": ", ".join(flags)})
        return self.model_copy(update={"flags": flags, "labels": labels})

    @property
    def feeds_a_curve(self) -> bool:
        """Whether it feeds a scaling claim: not if its ranks share cores or a GPU, with a fault, or of a collective."""
        return bool(self.rates) and self.speedup is not None and self.case.fault is None


def _cell_labels(fields: Mapping[str, Any]) -> CellLabels:
    """From the fields of a cell."""
    return CellLabels(
        **case_labels(fields["case"]).model_dump(),
        throughput=formatting.estimate(fields["throughput"]),
        step=formatting.duration_estimate(fields["step_s"]),
        speedup=formatting.speedup(fields["speedup"], fields["efficiency"]),
        efficiency=formatting.efficiency(fields["efficiency"]),
        flags=", ".join(fields["flags"]) or "–",
    )


def make_cells(
    cases: Sequence[Case],
    skipped: Mapping[str, str],
    trials: Sequence[Trial],
    machinery: Mapping[str, str],
    precision: float | None = None,
) -> tuple[Cell, ...]:
    """One cell a case, in the order of ``cases``; those without a trial are skipped or failed with a reason.

    Args:
        cases: the planned cases.
        skipped: the reason of each skipped case, by its key.
        trials: every trial of the sweep, in any order.
        machinery: how a backend's implementation differs from the others', by case key.
        precision: the half width of the intervals that was requested; wider cells are flagged.
    """
    by_key: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_key[trial.case.key].append(trial)
    planned = {case.key: case for case in cases}
    summaries = {key: summarize_case(planned[key], own) for key, own in by_key.items() if key in planned}
    return cells_of(cases, skipped, summaries, machinery, precision)


def cells_of(
    cases: Sequence[Case],
    skipped: Mapping[str, str],
    summaries: Mapping[str, CaseSummary],
    machinery: Mapping[str, str],
    precision: float | None = None,
) -> tuple[Cell, ...]:
    """:func:`make_cells` of trials that were summarized, by the keys of their cases."""
    cases = [_with_hardware_flags(case, summaries.get(case.key, NO_TRIALS)) for case in cases]
    baselines, proofs = _baselines(cases, summaries), _proofs(cases, summaries)
    cells = (
        _cell(case, summaries, skipped.get(case.key), baselines, proofs.get(case.key), machinery.get(case.key))
        for case in cases
    )
    named = with_batch(cases)
    return tuple(_mark_imprecise(_with_labels(cell, named(cell.case)), precision) for cell in cells)


def _with_hardware_flags(case: Case, own: CaseSummary) -> Case:
    """The case, flagged where its nodes had fewer cores than the plan could know, or its ranks were on one GPU."""
    flags = own.hardware_flags
    return case.model_copy(update={"flags": (*case.flags, *flags)}) if flags else case


def _with_labels(cell: Cell, values: Mapping[str, str]) -> Cell:
    if not values:
        return cell
    labels = case_labels(cell.case, values).model_dump()
    return cell.model_copy(update={"labels": cell.labels.model_copy(update=labels)})


def _mark_imprecise(cell: Cell, precision: float | None) -> Cell:
    width = half_width(cell.throughput)
    if precision is None or cell.throughput is None or (width is not None and width <= precision):
        return cell
    return cell.with_flag("imprecise")


def _baselines(cases: Sequence[Case], summaries: Mapping[str, CaseSummary]) -> dict[str, Case]:
    """By curve, the case with the fewest ranks that has a valid number and may feed a scaling claim.

    One rank is on one node, however many ranks that node has room for: it serves all curves of the same work.
    """
    baselines: dict[str, Case] = {}
    single_rank_cases: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.ranks):
        own = summaries.get(case.key, NO_TRIALS)
        valid = own.measures and own.outcome != "invalid"
        if valid and claim_problem(case.flags) is None and case.fault is None:
            baselines.setdefault(case.curve, case)
            if case.ranks == 1:
                single_rank_cases.setdefault(curve_family(case), case)
    placed = {
        case.curve: single_rank_cases[curve_family(case)]
        for case in cases
        if case.ranks_per_node and curve_family(case) in single_rank_cases
    }
    replaced = {curve: base for curve, base in placed.items() if curve in baselines and baselines[curve].ranks > 1}
    return {**baselines, **replaced}


def _cell(
    case: Case,
    summaries: Mapping[str, CaseSummary],
    skipped: str | None,
    baselines: Mapping[str, Case],
    proof: SameWork | None,
    machinery: str | None,
) -> Cell:
    own = summaries.get(case.key, NO_TRIALS)
    if skipped is not None:
        return Cell(case=case, outcome="skipped", reason=skipped, flags=case.flags, machinery=machinery)
    if not own.trials:
        return Cell(case=case, outcome="skipped", reason="the sweep ended before its first trial", flags=case.flags)
    outcome, base = own.outcome, baselines.get(case.curve)
    other_work = outcome == "ok" and proof is not None and proof.verdict == "different"
    reason = f"{own.bad} of {own.trials} trials: {own.bad_reason}" if own.bad else None
    if other_work and proof is not None:
        outcome, reason = "invalid", f"{DIFFERENT_WORK}: {proof.reason}"
    flags = cell_flags(case, own.good, base, proof, machinery, own.link, collective=own.is_collective)
    return Cell(
        case=case,
        outcome=outcome,
        reason=reason,
        trials=own.good,
        same_work=proof,
        machinery=machinery,
        flags=(
            *flags,
            *own.trial_flags,
            *(("other_scaling",) if _is_other_scaling(case, base, summaries) else ()),
            *(
                ("energy_aliased",)
                if any(error.is_aliased for error in worst_errors(trial.energy_errors for trial in own.measures))
                else ()
            ),
            *dict.fromkeys(condition.name for condition in own.conditions),
        ),
        conditions=own.conditions,
        contaminated=own.contaminated,
        link=own.link,
        nccl=own.nccl,
        nccl_reason=own.nccl_reason,
        hosts=own.hosts,
        cost=own.cost,
        cost_reason=own.cost_reason,
        failures=own.failures,
        log_tail=own.log_tail,
        **(_numbers(case, own, base, summaries) if own.numbers is not None and outcome != "invalid" else {}),
    )


def _is_other_scaling(case: Case, base: Case | None, summaries: Mapping[str, CaseSummary]) -> bool:
    own = summaries[case.key]
    if base is None or not own.is_program:
        return False
    amount, base_amount = (summaries[key].measures[0].amount_per_step for key in (case.key, base.key))
    return is_other_scaling(case, amount, base, base_amount)


def _proofs(cases: Sequence[Case], summaries: Mapping[str, CaseSummary]) -> dict[str, SameWork]:
    """The same-work verdict of each case by its key: that of its trials, and of a program that of its curve."""
    curves: dict[str, list[Sequence[Trial]]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.ranks):
        own = summaries.get(case.key, NO_TRIALS)
        if own.program_trials and case.fault is None:
            curves[case.curve].append(own.program_trials)
    proofs = {}
    for case in cases:
        own = summaries.get(case.key, NO_TRIALS)
        proof = own.proof
        if proof is not None and proof.verdict != "different" and own.good and case.curve in curves:
            proof = compare_reported(own.program_trials, curves[case.curve])
        if proof is not None:
            proofs[case.key] = proof
    return proofs


def _numbers(case: Case, own: CaseSummary, base: Case | None, summaries: Mapping[str, CaseSummary]) -> dict[str, Any]:
    """The fields of a cell that its successful trials measured; ``base``: the case that speed-up starts from."""
    assert own.numbers is not None
    baseline = summaries[base.key] if base else NO_TRIALS
    speedup, efficiency, scaling_reason = _scaling(case, own, base, baseline)
    is_baseline = base is not None and base.key == case.key
    return {
        **own.numbers.fields(),
        "measures": own.measures,
        "speedup": speedup,
        "efficiency": efficiency,
        "scaling_reason": scaling_reason,
        "decomposition": decompose(own.measures, baseline.measures, efficiency, is_baseline=is_baseline),
    }


def _scaling(
    case: Case, own: CaseSummary, base: Case | None, baseline: CaseSummary
) -> tuple[Estimate | None, Estimate | None, str | None]:
    """Speed-up and efficiency, or the reason why there are none; the base is 1 rank where it was measured."""
    if own.is_collective:
        return None, None, "a collective alone has no speed-up"
    if (problem := claim_problem(case.flags)) is not None:
        return None, None, f"{problem.replace('_', ' ')}: feeds no scaling claim"
    if base is None:
        return None, None, "no rank count of this curve gave a baseline"
    speedup, efficiency = speedup_and_efficiency(own.rates, case.ranks, baseline.rates, base.ranks)
    return speedup, efficiency, None
