"""What a cell holds beside its throughput, over its trials: usage, the parts of a step, a collective's messages.

What trials were billed, and what a sample costs by that (pure).

A trial is billed from its start to its end, and trains for a part of that. Of the cost of a sample two bounds are
known: at most the trial's whole cost ÷ the samples of its measured window, as if start, warm-up and checks had to be
paid for so few; at least the cost of as much time as the window took, as if all the time from asking for the trial to
its end (queueing and provisioning too, which are rarely billed) had been paid for at one rate. The longer a run, the
nearer it comes to the lower one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from bench.core.frozen_model import FrozenModel
from bench.core.records import Reading, Trial
from reports.analysis.communication import AllreduceTiming, bus_bandwidth
from reports.analysis.efficiency import StepSplit, Straggler, split_step
from reports.analysis.stats import Estimate, arithmetic_mean, estimate, ratio
from reports.analysis.throughput import throughput_of


class MessageCell(FrozenModel):
    """The allreduce of one message size: its time is the slowest rank's."""

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
    """``data``, ``forward``, ``backward``, ``optimizer``, ``waiting``, ``exposed``: they add up to ``step_s``."""
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


def readings(good: Sequence[Trial], of: Callable[[Trial], Sequence[Reading]]) -> tuple[ReadingCell, ...]:
    """The mean of each reading over the trials that know it; ``of`` gives those of one trial."""
    gathered: dict[str, list[Reading]] = {}
    for trial in good:
        for reading in of(trial):
            gathered.setdefault(reading.name, []).append(reading)
    cells = []
    for name, found in gathered.items():
        known = [reading.value for reading in found if reading.value is not None]
        mean = arithmetic_mean(known, found[0].unit) if known else None
        cells.append(ReadingCell(name=name, estimate=mean, reason=None if mean else found[0].reason))
    return tuple(cells)


def decomposition(good: Sequence[Trial], base: Sequence[Trial], measured: Estimate | None) -> Decomposition | None:
    splits = _splits(good)
    if not splits:
        return None
    names = ("data", "forward", "backward", "optimizer", "waiting", "exposed")
    found = Decomposition(
        parts_s={
            name: arithmetic_mean([getattr(step_split, f"{name}_s") for step_split in splits], "s") for name in names
        },
        step_s=arithmetic_mean([step_split.step_s for step_split in splits], "s"),
        load_balance=arithmetic_mean([step_split.load_balance for step_split in splits], "1"),
        communication_efficiency=arithmetic_mean([step_split.communication_efficiency for step_split in splits], "1"),
        parallel_efficiency=arithmetic_mean([step_split.parallel_efficiency for step_split in splits], "1"),
        stragglers=tuple(step_split.straggler for step_split in splits if step_split.straggler is not None),
    )
    base_splits = _splits(base)
    if not base_splits or measured is None:
        return found
    work_ratio = good[0].ranks[0].amount_per_step / base[0].ranks[0].amount_per_step
    scaling = ratio(
        [sum(step_split.own_s) for step_split in base_splits],
        [sum(step_split.own_s) for step_split in splits],
        work_ratio,
        "1",
    )
    if good[0].case.key == base[0].case.key:
        scaling = Estimate(value=1.0, low=None, high=None, n=len(splits), unit="1")
    global_efficiency = found.parallel_efficiency.value * scaling.value
    base_efficiency = fmean(step_split.parallel_efficiency for step_split in base_splits)
    unexplained = global_efficiency / base_efficiency / measured.value - 1
    return found.model_copy(
        update={"computation_scaling": scaling, "global_efficiency": global_efficiency, "unexplained": unexplained}
    )


def _splits(trials: Sequence[Trial]) -> list[StepSplit]:
    return [found for trial in trials if (found := split_step(trial.ranks)) is not None]


def messages(good: Sequence[Trial]) -> tuple[MessageCell, ...]:
    cells = []
    world = len(good[0].ranks)
    for position, first in enumerate(good[0].ranks[0].messages):
        times = [
            median(
                [max(once) for once in zip(*(record.messages[position].times_s for record in trial.ranks), strict=True)]
            )
            for trial in good
        ]
        bandwidths = [first.message_bytes / time_s for time_s in times]
        cells.append(
            MessageCell(
                message_bytes=first.message_bytes,
                time_s=estimate(times, "s"),
                algorithm_bandwidth=estimate(bandwidths, "B/s"),
                bus_bandwidth=estimate(
                    [bus_bandwidth(AllreduceTiming(world, first.message_bytes, time_s)) for time_s in times], "B/s"
                ),
            )
        )
    return tuple(cells)


def cost_of(trials: Sequence[Trial]) -> Estimate | None:
    """The mean over the trials whose cost is known, failed ones too: they are billed as well."""
    known = [trial.cost for trial in trials if trial.cost is not None]
    return arithmetic_mean(known, "") if known else None


def cost_per_unit(good: Sequence[Trial]) -> tuple[float, float] | None:
    """At least and at most, of a sample, byte or element: means over the good trials whose cost is known."""
    known = [(trial, trial.cost) for trial in good if trial.cost is not None]
    if not known:
        return None
    least = fmean(cost / trial.wall_s / throughput_of(trial.ranks) for trial, cost in known)
    most = fmean(cost / _window_units(trial) for trial, cost in known)
    return least, max(least, most)


def _window_units(trial: Trial) -> float:
    first = trial.ranks[0]
    return first.amount_per_step * len(first.step_s)
