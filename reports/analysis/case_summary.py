"""What the trials of one case say by themselves: its cell is made of it, and of those of other cases.

Trials hold every step of every rank. A summary is some ten kilobytes, so that thousands of cells fit into memory, and
is kept by the store (:mod:`harness.store.summaries`), so that a report need not read the trials again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field

from bench.core.case import Case
from bench.core.gradients import Gradients, ShardedUnits
from bench.core.machine import NodeFacts
from bench.core.nccl_report import NcclReport
from bench.core.records import DECOMPOSITION, Condition, Link, Outcome, RankFailure, Trial
from bench.core.same_work import SameWork
from bench.core.update_timing import UpdateTiming
from reports.analysis.cell_details import (
    Coverage,
    MessageCell,
    ReadingCell,
    cost_of,
    cost_per_unit,
    coverage_of,
    decisive_proof,
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
from reports.analysis.flags import trial_flags
from reports.analysis.launch_bound import LaunchBound, find_launch_bound
from reports.analysis.nccl_paths import nccl_of
from reports.analysis.numerous_model import NumerousModel
from reports.analysis.placement import exceeds_cores, hosts_of, share_a_gpu
from reports.analysis.program_runs import ProgramSummary, summarize_program
from reports.analysis.rank_resources import variables_of
from reports.analysis.roofline import Roofline, roofline_of
from reports.analysis.stats import Estimate, estimate
from reports.analysis.step_times import StepTimes, step_times_of
from reports.analysis.timeline import Timeline, timelines_of
from reports.analysis.trial_measures import (
    TrialMeasures,
    TrialOverhead,
    measure_trial,
    trial_overheads,
)
from reports.analysis.units import rate_unit


class CaseNumbers(NumerousModel):
    """What the successful trials of a case measured; the fields are those of :class:`reports.analysis.cells.Cell`."""

    throughput: Estimate
    rates: tuple[float, ...]
    step_s: Estimate
    host_step_s: Estimate | None
    device: str
    settings: dict[str, str]
    variables: dict[str, str] | None
    readings: tuple[ReadingCell, ...]
    usage: tuple[ReadingCell, ...]
    energy_errors: tuple[EnergyError, ...]
    coverage: Coverage | None
    update_timings: tuple[UpdateTiming, ...]
    messages: tuple[MessageCell, ...]
    gradients: Gradients | None
    sharded: ShardedUnits | None
    step_times: tuple[StepTimes, ...]
    timelines: tuple[Timeline, ...]
    decomposition_reason: str | None
    cost_per_unit: tuple[float, float] | None
    device_busy_s: Estimate | None
    device_busy_reason: str | None
    launch_bound: LaunchBound | None
    roofline: Roofline | None
    roofline_reason: str | None
    program: ProgramSummary | None

    def fields(self) -> dict[str, object]:
        """By name, as they are: they are frozen."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class CaseSummary(NumerousModel):
    """The trials of one case; without any, all of it is empty."""

    trials: int = 0
    good: int = 0
    """Those that gave a number."""
    outcome: Outcome = "failed"
    bad: int = 0
    """The trials that ended with :attr:`outcome`, unless that is ``ok``; the next three are of the first of them."""
    bad_reason: str | None = None
    failures: tuple[RankFailure, ...] = ()
    log_tail: tuple[str, ...] = ()
    hardware_flags: tuple[str, ...] = ()
    """What the plan could not know: cores or GPUs that ranks shared."""
    trial_flags: tuple[str, ...] = ()
    """See :func:`reports.analysis.flags.trial_flags`."""
    kind: str | None = None
    """Of the workload; ``None`` without a number."""
    proof: SameWork | None = None
    conditions: tuple[Condition, ...] = ()
    contaminated: int = 0
    link: Link | None = None
    nccl: NcclReport | None = None
    nccl_reason: str | None = None
    hosts: tuple[NodeFacts, ...] = ()
    cost: Estimate | None = None
    cost_reason: str | None = None
    measures: tuple[TrialMeasures, ...] = ()
    numbers: CaseNumbers | None = None
    overheads: tuple[TrialOverhead, ...] = ()
    """Of the trials that measured what measuring costs."""
    program_trials: tuple[Trial, ...] = Field(default=(), repr=False)
    """The successful trials of a user's program, whose losses are compared with those of other rank counts."""

    def without_details(self) -> Self:
        """The same without what is shown of the first cases of a large sweep only: the usage of each trial, and
        timelines."""
        measures = tuple(trial.model_copy(update={"usage": ()}) for trial in self.measures)
        numbers = self.numbers and self.numbers.model_copy(update={"timelines": ()})
        return self.model_copy(update={"measures": measures, "numbers": numbers})

    @property
    def rates(self) -> tuple[float, ...]:
        return self.numbers.rates if self.numbers is not None else ()

    @property
    def is_collective(self) -> bool:
        return self.kind == "collective"

    @property
    def is_program(self) -> bool:
        return self.kind == "program"


NO_TRIALS = CaseSummary()


def summarize_case(case: Case, trials: Sequence[Trial]) -> CaseSummary:
    """Summarize the trials of a case.

    Args:
        case: As it was planned.
        trials: All of its trials, in the order of their rounds.
    """
    if not trials:
        return NO_TRIALS
    measured = [(trial, numbers) for trial in trials if (numbers := measure_trial(trial)) is not None]
    good, measures = [trial for trial, _ in measured], [numbers for _, numbers in measured]
    outcome = outcome_of(trials)
    bad = [trial for trial in trials if trial.outcome == outcome != "ok"]
    nccl, nccl_reason = nccl_of(trials)
    found = {"oversubscribed": exceeds_cores(case, trials), "shared_gpu": any(map(share_a_gpu, trials))}
    hardware_flags = tuple(flag for flag, holds in found.items() if holds and flag not in case.flags)
    kind = good[0].ranks[0].kind if good else None
    flagged = case.model_copy(update={"flags": (*case.flags, *hardware_flags)}) if hardware_flags else case
    return CaseSummary(
        trials=len(trials),
        good=len(good),
        outcome=outcome,
        bad=len(bad),
        bad_reason=bad[0].reason if bad else None,
        failures=bad[0].failures if bad else (),
        log_tail=bad[0].log_tail if bad else (),
        hardware_flags=hardware_flags,
        trial_flags=trial_flags(good),
        kind=kind,
        proof=decisive_proof([trial.same_work for trial in trials if trial.same_work is not None]),
        conditions=tuple(condition for trial in trials for condition in trial.conditions),
        contaminated=sum(any(condition.serious for condition in trial.conditions) for trial in trials),
        link=slowest_link([trial.link for trial in trials if trial.link is not None]),
        nccl=nccl,
        nccl_reason=nccl_reason,
        hosts=hosts_of(trials),
        cost=cost_of(trials),
        cost_reason=next((trial.cost_reason for trial in trials if trial.cost_reason), None),
        measures=tuple(measures),
        numbers=_numbers(flagged, good, measures) if good else None,
        overheads=trial_overheads(trials),
        program_trials=tuple(good) if kind == "program" else (),
    )


def _numbers(case: Case, good: Sequence[Trial], measures: Sequence[TrialMeasures]) -> CaseNumbers:
    first = good[0].ranks[0]
    rates = tuple(trial.throughput for trial in measures)
    roofline, roofline_reason = roofline_of(good, [trial.split for trial in measures])
    step_s = estimate([trial.step_s for trial in measures], "s")
    usage = mean_usage(measures)
    busy = next((reading for reading in usage if reading.name == BUSY), None)
    return CaseNumbers(
        throughput=estimate(rates, rate_unit(first.unit)),
        rates=rates,
        step_s=step_s,
        host_step_s=_estimate_of_all([trial.host_step_s for trial in measures], "s"),
        device=first.device,
        settings=first.settings,
        variables=variables_of(good),
        readings=mean_readings([trial.ranks[0].readings for trial in good]),
        usage=usage,
        energy_errors=worst_errors(trial.energy_errors for trial in measures),
        coverage=coverage_of(good),
        update_timings=update_timings_of(good),
        messages=message_cells(measures, first.messages, len(good[0].ranks)),
        gradients=first.gradients,
        sharded=first.sharded,
        step_times=step_times_of([trial.ranks for trial in good]),
        timelines=timelines_of(good),
        decomposition_reason=_decomposition_reason(good),
        cost_per_unit=cost_per_unit(good, measures),
        device_busy_s=busy.estimate if busy else None,
        device_busy_reason=busy.reason if busy else None,
        launch_bound=find_launch_bound(case, step_s, busy.estimate if busy else None, usage),
        roofline=roofline,
        roofline_reason=roofline_reason,
        program=summarize_program(good),
    )


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
