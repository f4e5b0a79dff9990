"""The step of a trial, from the raw times of its ranks: how long it lasts, where its time goes, how it varies.

A step lasts as long as on its slowest rank. Its parts and the efficiencies that follow are those of the multiplicative
model of the POP Centre of Excellence. With own time c_r (how long a step of rank r takes without exchange) and step
time T:

    load balance             = mean(c) ÷ max(c)
    communication efficiency = max(c) ÷ T
    parallel efficiency      = load balance × communication efficiency = mean(c) ÷ T

    computation scaling      = Σc at the smallest rank count ÷ Σc here, for the same number of samples
    global efficiency        = parallel efficiency × computation scaling

and T = mean(c) + waiting for the slowest rank (max(c) − mean(c)) + exposed communication (T − max(c)), exactly.
Definitions: https://pop-coe.eu/node/69. All times in seconds.

Own time is that of the parts (data, forward, backward, optimizer), timed one by one, and an unattributed rest. A single
rank has c = T: whatever its backend does in a step, it communicates with no other rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from bench.core.frozen_model import FrozenModel
from bench.core.records import RankRecord
from bench.core.step_measures import PhaseTimes
from reports.analysis.numerous_model import NumerousModel

OWN_PARTS = ("data", "forward", "backward", "optimizer")
STRAGGLER_SHARE = 0.2
STRAGGLER_MIN_DELAY_S = 1e-3
PERCENTILES = (5, 25, 50, 75, 95)


def throughput_of(ranks: Sequence[RankRecord]) -> float:
    """Units of work of all ranks per second of the measured window, which lasts as long as on its slowest rank."""
    window_s = max(record.measured_s for record in ranks)
    return ranks[0].amount_per_step * ranks[0].steps / window_s


def slowest_steps(ranks: Sequence[RankRecord]) -> list[float]:
    """The duration of each step on its slowest rank, in seconds; of blocks of steps, the mean of each."""
    return [max(times) for times in zip(*(record.step_s for record in ranks), strict=True)]


class Straggler(FrozenModel):
    """A rank whose own time exceeds the median of the others'."""

    rank: int
    delay_s: float


class StepSplit(NumerousModel):
    """The parts of a step, as means over the ranks; the first seven add up to :attr:`step_s`."""

    data_s: float | None
    """``None``, as of each of these parts: a user's own program showed no such part, or a CUDA graph holds it. It is
    then in :attr:`unattributed_s`."""
    forward_s: float | None
    backward_s: float | None
    optimizer_s: float | None
    unattributed_s: float | None
    """What a step without exchange takes beyond its parts; it may be negative, since parts are timed one by one.
    ``None`` where whole steps were not timed: it is then in :attr:`exposed_s`."""
    waiting_s: float
    exposed_s: float
    step_s: float
    own_s: tuple[float, ...]
    """The own time of each rank."""
    straggler: Straggler | None

    @property
    def load_balance(self) -> float:
        """mean(c) ÷ max(c)"""
        return fmean(self.own_s) / max(self.own_s)

    @property
    def communication_efficiency(self) -> float:
        """max(c) ÷ T"""
        return max(self.own_s) / self.step_s

    @property
    def parallel_efficiency(self) -> float:
        """mean(c) ÷ T"""
        return self.load_balance * self.communication_efficiency


def split_step(records: Sequence[RankRecord]) -> StepSplit | None:
    """The parts of a trial's step, from its ranks' raw times; ``None`` where a rank measured none."""
    phases = [record.phases for record in records if record.phases is not None]
    if len(phases) != len(records) or not phases:
        return None
    # Not the mean over steps of the slowest rank: where ranks are late by turns, the others catch up.
    step_s = max(fmean(rank_phases.together_s) for rank_phases in phases)
    # This project's own work has all parts, if only for no time; a replayed graph does not show those that it holds.
    shows_all = any(record.kind != "program" for record in records)
    shows_all = shows_all and not any("graph" in rank_phases.alone_s for rank_phases in phases)
    absent: tuple[float, ...] | None = (0.0,) if shows_all else None
    parts = {f"{name}_s": _mean_part([each.alone_s.get(name, absent) for each in phases]) for name in OWN_PARTS}
    whole = _whole_steps(phases)
    own = whole or tuple(sum(fmean(times) for times in rank_phases.alone_s.values()) for rank_phases in phases)
    return StepSplit(
        **parts,
        unattributed_s=fmean(whole) - sum(filter(None, parts.values())) if whole else None,
        waiting_s=max(own) - fmean(own),
        exposed_s=step_s - max(own),
        step_s=step_s,
        own_s=own,
        straggler=find_straggler(own),
    )


def _mean_part(times_s: Sequence[Sequence[float] | None]) -> float | None:
    """The mean over the ranks; ``None`` where one of them did not show the part."""
    known = [fmean(times) for times in times_s if times is not None]
    return fmean(known) if len(known) == len(times_s) else None


def _whole_steps(phases: Sequence[PhaseTimes]) -> tuple[float, ...]:
    """How long a step of each rank takes without exchange; empty where that was not measured."""
    if len(phases) == 1:
        return (fmean(phases[0].together_s),)
    times = [rank_phases.alone_step_s for rank_phases in phases]
    return tuple(fmean(whole) for whole in times if whole) if all(times) else ()


def find_straggler(own_s: Sequence[float]) -> Straggler | None:
    """The slowest rank, if its own time exceeds the median of the others by over 20 % and over a millisecond."""
    if len(own_s) < 2:
        return None
    rank = max(range(len(own_s)), key=lambda number: own_s[number])
    others = median(own for number, own in enumerate(own_s) if number != rank)
    delay_s = own_s[rank] - others
    if delay_s < max(STRAGGLER_MIN_DELAY_S, STRAGGLER_SHARE * others):
        return None
    return Straggler(rank=rank, delay_s=delay_s)


class StepTimes(NumerousModel):
    """The distribution of one rank's step times over all trials, in seconds.

    For description only: steps are not independent samples, so these are no intervals of anything. Where a device marks
    blocks of steps, it is the distribution of their means, which is narrower than that of the steps.
    """

    rank: int
    steps: int
    trials: int
    steps_per_entry: int = 1
    """The steps in a block, of the trial with the longest ones."""
    p5_s: float
    p25_s: float
    median_s: float
    p75_s: float
    p95_s: float
    slowest_s: float
    host_median_s: float | None = None
    """How long the host took to enqueue a step; ``None``: it computes the steps itself, or a trial does not tell."""


def step_times_of(trials: Sequence[Sequence[RankRecord]]) -> tuple[StepTimes, ...]:
    """The step times of each rank, with percentiles interpolated between steps.

    ``trials``: the records of each trial, of the same ranks.

    Raises ``ValueError`` where ranks of one trial took different numbers of steps.
    """
    if not trials:
        return ()
    import numpy as np

    by_rank = [sorted(ranks, key=lambda record: record.rank) for ranks in trials]
    # Ranks × steps (or blocks of steps) of all trials.
    steps = np.concatenate([[record.step_s for record in ranks] for ranks in by_rank], axis=1)
    times_s = [*np.percentile(steps, PERCENTILES, axis=1), steps.max(axis=1)]
    return tuple(
        StepTimes(
            rank=by_rank[0][place].rank,
            steps=sum(ranks[0].steps for ranks in by_rank),
            trials=len(trials),
            steps_per_entry=max(ranks[0].steps_per_entry for ranks in by_rank),
            p5_s=p5,
            p25_s=p25,
            median_s=p50,
            p75_s=p75,
            p95_s=p95,
            slowest_s=slowest,
            host_median_s=_host_median_s([ranks[place] for ranks in by_rank]),
        )
        for place, (p5, p25, p50, p75, p95, slowest) in enumerate(
            zip(*(times.tolist() for times in times_s), strict=True)
        )
    )


def _host_median_s(records: Sequence[RankRecord]) -> float | None:
    """Over the entries of one rank in all trials."""
    known = [record.host_step_s for record in records if record.host_step_s is not None]
    return median(time_s for times in known for time_s in times) if len(known) == len(records) else None
