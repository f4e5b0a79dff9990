"""What a cell holds beside its throughput, over its trials: usage, the parts of a step, messages, and costs.

A trial is billed from its start to its end, and trains for a part of that time. The cost of a sample therefore has two
bounds. At most: the trial's whole cost ÷ the samples of its measured window, as if start, warm-up and checks were paid
for by so few samples. At least: the cost of as much time as the window took, as if the whole time from submitting the
trial to its end (queueing and provisioning too, which are rarely billed) had been billed at one rate. The longer a run,
the nearer its cost is to the lower bound.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean

from bench.core.collectives import Collective, bus_factor
from bench.core.frozen_model import FrozenModel
from bench.core.records import Link, Outcome, Reading, Trial
from bench.core.same_work import SameWork
from bench.core.step_measures import MessageTiming
from bench.core.update_timing import UpdateTiming
from reports.analysis.energy_alias import widened_for
from reports.analysis.energy_errors import worst_errors
from reports.analysis.stats import Estimate, arithmetic_mean, estimate, ratio
from reports.analysis.step_times import Straggler
from reports.analysis.telemetry_window import TelemetryWindow
from reports.analysis.trial_measures import TrialMeasures

STEP_PARTS = ("data", "forward", "backward", "optimizer", "unattributed", "waiting", "exposed")
NOT_TIMED_WHOLE = "recorded before steps without exchange were timed whole: it is part of exposed communication"


class MessageCell(FrozenModel):
    """A collective operation over one message size: its time is the slowest rank's."""

    operation: Collective = "all_reduce"
    in_place: bool | None = None
    """Whether the result replaced what a rank handed in; ``None``: unknown."""
    message_bytes: int
    time_s: Estimate
    algorithm_bandwidth: Estimate
    bus_bandwidth: Estimate


class ReadingCell(FrozenModel):
    """A further reading over the trials; no estimate where it is unknown, with the reason."""

    name: str
    estimate: Estimate | None
    reason: str | None = None


class Decomposition(FrozenModel):
    """Where the time of a step goes: each over the trials, in seconds or as a share."""

    parts_s: dict[str, Estimate]
    """:data:`STEP_PARTS`, which add up to ``step_s``; ``unattributed`` is missing where it is unknown, and parts that a
    user's own program does not show are in it."""
    unattributed_reason: str | None = None
    """Why ``unattributed`` is unknown."""
    step_s: Estimate
    load_balance: Estimate
    communication_efficiency: Estimate
    parallel_efficiency: Estimate
    computation_scaling: Estimate | None = None
    """Own time of all ranks at the baseline ÷ here, for the same samples; 1 at the baseline."""
    global_efficiency: float | None = None
    """Parallel efficiency × computation scaling."""
    unexplained: float | None = None
    """Global efficiency ÷ the baseline's ÷ the measured efficiency − 1: what the decomposition does not account for."""
    stragglers: tuple[Straggler, ...] = ()
    """Of the trials that had one."""


class Coverage(FrozenModel):
    """How well a cell's windows were sampled: on the node and in the trial with the fewest samples."""

    samples: int
    share: float
    """The part of the window between its first and its last sample."""


def mean_readings(by_trial: Sequence[Sequence[Reading]]) -> tuple[ReadingCell, ...]:
    """The mean of each reading over the trials that know it; ``by_trial``: the readings of each trial."""
    by_name: dict[str, list[Reading]] = {}
    for trial_readings in by_trial:
        for reading in trial_readings:
            by_name.setdefault(reading.name, []).append(reading)
    cells = []
    for name, readings in by_name.items():
        known = [reading.value for reading in readings if reading.value is not None]
        mean = arithmetic_mean(known, readings[0].unit) if known else None
        cells.append(ReadingCell(name=name, estimate=mean, reason=None if mean else readings[0].reason))
    return tuple(cells)


def mean_usage(measures: Sequence[TrialMeasures]) -> tuple[ReadingCell, ...]:
    """The mean of each reading of the trials' usage; the interval of an energy allows for an alias."""
    errors = {error.name: error for error in worst_errors(trial.energy_errors for trial in measures)}
    return tuple(
        reading.model_copy(update={"estimate": widened_for(reading.estimate, error.alias)})
        if reading.estimate is not None and (error := errors.get(reading.name)) and error.alias is not None
        else reading
        for reading in mean_readings([trial.usage for trial in measures])
    )


def decompose(
    measures: Sequence[TrialMeasures],
    baseline: Sequence[TrialMeasures],
    efficiency: Estimate | None,
    *,
    is_baseline: bool,
) -> Decomposition | None:
    """The parts of a cell's step and its efficiencies; ``None`` where no trial was decomposed.

    Args:
        measures: of the cell's trials.
        baseline: of the trials that speed-up starts from; without any there is no computation scaling.
        efficiency: the measured efficiency of the cell, that the parts have to explain.
        is_baseline: whether the cell is the baseline itself.
    """
    splits = [trial.split for trial in measures if trial.split is not None]
    if not splits:
        return None
    known = [name for name in STEP_PARTS if all(getattr(split, f"{name}_s") is not None for split in splits)]
    decomposition = Decomposition(
        parts_s={name: arithmetic_mean([getattr(split, f"{name}_s") for split in splits], "s") for name in known},
        unattributed_reason=None if "unattributed" in known else NOT_TIMED_WHOLE,
        step_s=arithmetic_mean([split.step_s for split in splits], "s"),
        load_balance=arithmetic_mean([split.load_balance for split in splits], "1"),
        communication_efficiency=arithmetic_mean([split.communication_efficiency for split in splits], "1"),
        parallel_efficiency=arithmetic_mean([split.parallel_efficiency for split in splits], "1"),
        stragglers=tuple(split.straggler for split in splits if split.straggler is not None),
    )
    base_splits = [trial.split for trial in baseline if trial.split is not None]
    if not base_splits or efficiency is None:
        return decomposition
    scaling = ratio(
        [sum(split.own_s) for split in base_splits],
        [sum(split.own_s) for split in splits],
        measures[0].amount_per_step / baseline[0].amount_per_step,
        "1",
    )
    if is_baseline:
        scaling = Estimate(value=1.0, low=None, high=None, n=len(splits), unit="1")
    global_efficiency = decomposition.parallel_efficiency.value * scaling.value
    base_efficiency = fmean(split.parallel_efficiency for split in base_splits)
    unexplained = global_efficiency / base_efficiency / efficiency.value - 1
    return decomposition.model_copy(
        update={"computation_scaling": scaling, "global_efficiency": global_efficiency, "unexplained": unexplained}
    )


def message_cells(
    measures: Sequence[TrialMeasures], messages: Sequence[MessageTiming], ranks: int
) -> tuple[MessageCell, ...]:
    """The operations of a collective's cell; ``messages``: those of one rank, for their sizes."""
    cells = []
    for position, message in enumerate(messages):
        size = message.message_bytes
        times = [trial.message_times_s[position] for trial in measures]
        factor = bus_factor(message.operation, ranks)
        cells.append(
            MessageCell(
                operation=message.operation,
                in_place=message.in_place,
                message_bytes=size,
                time_s=estimate(times, "s"),
                algorithm_bandwidth=estimate([size / time_s for time_s in times], "B/s"),
                bus_bandwidth=estimate([factor * size / time_s for time_s in times], "B/s"),
            )
        )
    return tuple(cells)


def coverage_of(trials: Sequence[Trial]) -> Coverage | None:
    """``None`` where no trial was sampled."""
    coverages = [TelemetryWindow(node).coverage() for trial in trials for node in trial.telemetry]
    if not coverages:
        return None
    return Coverage(samples=min(samples for samples, _ in coverages), share=min(share for _, share in coverages))


def update_timings_of(trials: Sequence[Trial]) -> tuple[UpdateTiming, ...]:
    """What the sampled readings are made of, by the last trial that knows it."""
    known = ([timing for node in trial.telemetry for timing in node.update_timings] for trial in reversed(trials))
    return tuple(next(filter(None, known), ()))


def cost_of(trials: Sequence[Trial]) -> Estimate | None:
    """The mean over the trials whose cost is known, failed ones too: they are billed as well."""
    known = [trial.cost for trial in trials if trial.cost is not None]
    return arithmetic_mean(known, "") if known else None


def cost_per_unit(trials: Sequence[Trial], measures: Sequence[TrialMeasures]) -> tuple[float, float] | None:
    """At least and at most, of a sample, byte or element: means over the trials whose cost is known.

    ``measures``: of each of the trials, in the same order.
    """
    known = [
        (trial.cost, trial.wall_s, own)
        for trial, own in zip(trials, measures, strict=True)
        if trial.cost is not None and trial.wall_s
    ]
    if not known:
        return None
    least = fmean(cost / wall_s / own.throughput for cost, wall_s, own in known)
    most = fmean(cost / own.window_amount for cost, _, own in known)
    return least, max(least, most)


def outcome_of(trials: Sequence[Trial]) -> Outcome:
    """The outcome of a cell: a trial with different work makes it invalid, a contaminated trial is left out."""
    if any(trial.same_work is not None and trial.same_work.verdict == "different" for trial in trials):
        return "invalid"
    return worst_outcome([trial.outcome for trial in trials])


def worst_outcome(outcomes: Collection[Outcome]) -> Outcome:
    """The outcome of a cell by those of its trials, whose work was the same."""
    order: tuple[Outcome, ...] = ("failed", "timeout", "ok", "invalid")
    return next((outcome for outcome in order if outcome in outcomes), "failed")


def decisive_proof(proofs: Sequence[SameWork]) -> SameWork | None:
    """The verdict that counts for the cell: a failed one, else the one with the largest deviation."""
    failed = [proof for proof in proofs if proof.verdict == "different"]
    return max(failed or proofs, key=lambda proof: proof.deviation or 0.0, default=None)


def slowest_link(links: Sequence[Link]) -> Link | None:
    """``None`` where no trial had links of its own."""
    return min(links, key=lambda link: link.achieved_bytes_s, default=None)
