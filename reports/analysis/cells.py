"""A cell is a case over its trials: the values that the table, the page and the JSON of a sweep are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.gradients import Gradients, ShardedUnits
from bench.core.machine import NodeFacts
from bench.core.nccl_report import NcclReport
from bench.core.records import DECOMPOSITION, Condition, Link, Outcome, RankFailure, Trial
from bench.core.same_work import SameWork
from bench.core.update_timing import UpdateTiming
from reports.analysis import formatting
from reports.analysis.case_titles import CaseLabels, case_labels, with_batch
from reports.analysis.cell_details import (
    Coverage,
    Decomposition,
    MessageCell,
    ReadingCell,
    cost_of,
    cost_per_unit,
    coverage_of,
    decisive_proof,
    decompose,
    mean_readings,
    mean_usage,
    message_cells,
    outcome_of,
    slowest_link,
    update_timings_of,
)
from reports.analysis.conditions import missing_reason
from reports.analysis.device_busy import BUSY
from reports.analysis.energy_errors import EnergyError, worst_errors
from reports.analysis.flags import cell_flags, claim_problem, is_collective, is_other_scaling
from reports.analysis.launch_bound import LaunchBound, find_launch_bound
from reports.analysis.nccl_paths import nccl_of
from reports.analysis.placement import curve_family, exceeds_cores, hosts_of, share_a_gpu
from reports.analysis.program_runs import ProgramSummary, summarize_program
from reports.analysis.rank_resources import variables_of
from reports.analysis.reported_work import compare_reported
from reports.analysis.roofline import Roofline, roofline_of
from reports.analysis.same_work import DIFFERENT_WORK
from reports.analysis.stats import Estimate, estimate, half_width, speedup_and_efficiency
from reports.analysis.step_times import StepTimes, step_times_of
from reports.analysis.timeline import Timeline, timelines_of
from reports.analysis.trial_measures import TrialMeasures, measure_trial
from reports.analysis.units import rate_unit


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


class _MeasuredTrials(NamedTuple):
    """The trials of one case, the successful ones among them, and their numbers in the same order."""

    trials: Sequence[Trial] = ()
    good: Sequence[Trial] = ()
    measures: Sequence[TrialMeasures] = ()

    @property
    def rates(self) -> tuple[float, ...]:
        return tuple(trial.throughput for trial in self.measures)


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
    measured = {key: _measure(case_trials) for key, case_trials in by_key.items()}
    cases = [_with_shared_hardware(case, by_key.get(case.key, ())) for case in cases]
    baselines, proofs = _baselines(cases, measured), _proofs(cases, measured)
    cells = (
        _cell(case, measured, skipped.get(case.key), baselines, proofs.get(case.key), machinery.get(case.key))
        for case in cases
    )
    named = with_batch(cases)
    return tuple(_mark_imprecise(_with_labels(cell, named(cell.case)), precision) for cell in cells)


def _measure(trials: Sequence[Trial]) -> _MeasuredTrials:
    pairs = [(trial, measures) for trial in trials if (measures := measure_trial(trial)) is not None]
    return _MeasuredTrials(trials, [trial for trial, _ in pairs], [measures for _, measures in pairs])


def _with_shared_hardware(case: Case, trials: Sequence[Trial]) -> Case:
    """The case, flagged where its nodes had fewer cores than the plan could know, or its ranks were on one GPU."""
    found = {"oversubscribed": exceeds_cores(case, trials), "shared_gpu": any(map(share_a_gpu, trials))}
    flags = tuple(flag for flag, holds in found.items() if holds and flag not in case.flags)
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


def _baselines(cases: Sequence[Case], measured: Mapping[str, _MeasuredTrials]) -> dict[str, Case]:
    """By curve, the case with the fewest ranks that has a valid number and may feed a scaling claim.

    One rank is on one node, however many ranks that node has room for: it serves all curves of the same work.
    """
    baselines: dict[str, Case] = {}
    single_rank_cases: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.ranks):
        own = measured.get(case.key, _MeasuredTrials())
        valid = own.measures and outcome_of(own.trials) != "invalid"
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
    measured: Mapping[str, _MeasuredTrials],
    skipped: str | None,
    baselines: Mapping[str, Case],
    proof: SameWork | None,
    machinery: str | None,
) -> Cell:
    own = measured.get(case.key, _MeasuredTrials())
    if skipped is not None:
        return Cell(case=case, outcome="skipped", reason=skipped, flags=case.flags, machinery=machinery)
    if not own.trials:
        return Cell(case=case, outcome="skipped", reason="the sweep ended before its first trial", flags=case.flags)
    trials, outcome, base = own.trials, outcome_of(own.trials), baselines.get(case.curve)
    other_work = outcome == "ok" and proof is not None and proof.verdict == "different"
    bad = [trial for trial in trials if trial.outcome == outcome != "ok"]
    conditions = tuple(condition for trial in trials for condition in trial.conditions)
    link = slowest_link([trial.link for trial in trials if trial.link is not None])
    reason = f"{len(bad)} of {len(trials)} trials: {bad[0].reason}" if bad else None
    nccl, nccl_reason = nccl_of(trials)
    if other_work and proof is not None:
        outcome, reason = "invalid", f"{DIFFERENT_WORK}: {proof.reason}"
    return Cell(
        case=case,
        outcome=outcome,
        reason=reason,
        trials=len(own.good),
        same_work=proof,
        machinery=machinery,
        flags=(
            *cell_flags(case, own.good, base, proof, machinery, link),
            *(("other_scaling",) if _is_other_scaling(case, base, measured) else ()),
            *(
                ("energy_aliased",)
                if any(error.is_aliased for error in worst_errors(trial.energy_errors for trial in own.measures))
                else ()
            ),
            *dict.fromkeys(condition.name for condition in conditions),
        ),
        conditions=conditions,
        contaminated=sum(any(condition.serious for condition in trial.conditions) for trial in trials),
        link=link,
        nccl=nccl,
        nccl_reason=nccl_reason,
        hosts=hosts_of(trials),
        cost=cost_of(trials),
        cost_reason=next((trial.cost_reason for trial in trials if trial.cost_reason), None),
        failures=bad[0].failures if bad else (),
        log_tail=bad[0].log_tail if bad else (),
        **(_numbers(case, own, base, measured) if own.good and outcome != "invalid" else {}),
    )


def _is_other_scaling(case: Case, base: Case | None, measured: Mapping[str, _MeasuredTrials]) -> bool:
    own = measured[case.key]
    if base is None or not own.measures or own.good[0].ranks[0].kind != "program":
        return False
    amount, base_amount = (measured[key].measures[0].amount_per_step for key in (case.key, base.key))
    return is_other_scaling(case, amount, base, base_amount)


def _proofs(cases: Sequence[Case], measured: Mapping[str, _MeasuredTrials]) -> dict[str, SameWork]:
    """The same-work verdict of each case by its key: that of its trials, and of a program that of its curve."""
    curves: dict[str, list[Sequence[Trial]]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.ranks):
        good = measured.get(case.key, _MeasuredTrials()).good
        if good and good[0].ranks[0].kind == "program" and case.fault is None:
            curves[case.curve].append(good)
    proofs = {}
    for case in cases:
        own = measured.get(case.key, _MeasuredTrials())
        proof = decisive_proof([trial.same_work for trial in own.trials if trial.same_work is not None])
        if proof is not None and proof.verdict != "different" and own.good and case.curve in curves:
            proof = compare_reported(own.good, curves[case.curve])
        if proof is not None:
            proofs[case.key] = proof
    return proofs


def _numbers(
    case: Case, own: _MeasuredTrials, base: Case | None, measured: Mapping[str, _MeasuredTrials]
) -> dict[str, Any]:
    """The fields of a cell that its successful trials measured; ``base``: the case that speed-up starts from."""
    good, measures, first = own.good, own.measures, own.good[0].ranks[0]
    baseline = measured[base.key] if base else _MeasuredTrials()
    speedup, efficiency, scaling_reason = _scaling(case, own, base, baseline)
    roofline, roofline_reason = roofline_of(good, [trial.split for trial in measures])
    is_baseline = base is not None and base.key == case.key
    step_s = estimate([trial.step_s for trial in measures], "s")
    usage = mean_usage(measures)
    busy = next((reading for reading in usage if reading.name == BUSY), None)
    return {
        "throughput": estimate(own.rates, rate_unit(first.unit)),
        "measures": tuple(measures),
        "rates": own.rates,
        "step_s": step_s,
        "host_step_s": _estimate_of_all([trial.host_step_s for trial in measures], "s"),
        "speedup": speedup,
        "efficiency": efficiency,
        "scaling_reason": scaling_reason,
        "device": first.device,
        "settings": first.settings,
        "variables": variables_of(good),
        "readings": mean_readings([trial.ranks[0].readings for trial in good]),
        "usage": usage,
        "energy_errors": worst_errors(trial.energy_errors for trial in measures),
        "coverage": coverage_of(good),
        "update_timings": update_timings_of(good),
        "messages": message_cells(measures, first.messages, len(good[0].ranks)),
        "gradients": first.gradients,
        "sharded": first.sharded,
        "step_times": step_times_of([trial.ranks for trial in good]),
        "timelines": timelines_of(good),
        "decomposition": decompose(measures, baseline.measures, efficiency, is_baseline=is_baseline),
        "decomposition_reason": _decomposition_reason(good),
        "cost_per_unit": cost_per_unit(good, measures),
        "device_busy_s": busy.estimate if busy else None,
        "device_busy_reason": busy.reason if busy else None,
        "launch_bound": find_launch_bound(case, step_s, busy.estimate if busy else None, usage),
        "roofline": roofline,
        "roofline_reason": roofline_reason,
        "program": summarize_program(good),
    }


def _estimate_of_all(values: Sequence[float | None], unit: str) -> Estimate | None:
    """``None`` where a trial does not have the value."""
    known = [value for value in values if value is not None]
    return estimate(known, unit) if len(known) == len(values) else None


def _decomposition_reason(good: Sequence[Trial]) -> str | None:
    """Why no trial's steps were decomposed, where that was requested."""
    ranks = [rank for trial in good for rank in trial.ranks]
    if any(all(rank.phases for rank in trial.ranks) for trial in good):
        return None
    impossible = next((rank.phases_reason for rank in ranks if rank.phases_reason), None)
    return impossible or missing_reason(ranks, DECOMPOSITION)


def _scaling(
    case: Case, own: _MeasuredTrials, base: Case | None, baseline: _MeasuredTrials
) -> tuple[Estimate | None, Estimate | None, str | None]:
    """Speed-up and efficiency, or the reason why there are none; the base is 1 rank where it was measured."""
    if is_collective(own.good):
        return None, None, "a collective alone has no speed-up"
    if (problem := claim_problem(case.flags)) is not None:
        return None, None, f"{problem.replace('_', ' ')}: feeds no scaling claim"
    if base is None:
        return None, None, "no rank count of this curve gave a baseline"
    speedup, efficiency = speedup_and_efficiency(own.rates, case.ranks, baseline.rates, base.ranks)
    return speedup, efficiency, None
