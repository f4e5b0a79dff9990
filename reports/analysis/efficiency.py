"""Where the time of a step goes, and the efficiencies that follow (POP Centre of Excellence's multiplicative model).

With own time c_r (what rank r does in a step without exchange: data, forward, backward, optimizer) and step time T (an
ordinary step, which lasts as long as on its slowest rank):

    load balance             = mean(c) ÷ max(c)
    communication efficiency = max(c) ÷ T
    parallel efficiency      = load balance × communication efficiency = mean(c) ÷ T

    computation scaling      = Σc at the smallest rank count ÷ Σc here, for the same number of samples
    global efficiency        = parallel efficiency × computation scaling

and T = mean(c) + waiting for the slowest rank (max(c) − mean(c)) + exposed communication (T − max(c)), exactly.
Definitions: https://pop-coe.eu/node/69. All times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from bench.core.frozen_model import FrozenModel
from bench.core.records import RankRecord

STRAGGLER_SHARE = 0.2
STRAGGLER_MIN_DELAY_S = 1e-3


class Straggler(FrozenModel):
    """A rank whose own time exceeds the median of the others'."""

    rank: int
    delay_s: float


class StepSplit(FrozenModel):
    """The parts of a step; the first six add up to :attr:`step_s`. Parts of ranks are means over the ranks."""

    data_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    waiting_s: float
    exposed_s: float
    step_s: float
    own_s: tuple[float, ...]
    """Of each rank."""
    straggler: Straggler | None

    @property
    def load_balance(self) -> float:
        return fmean(self.own_s) / max(self.own_s)

    @property
    def communication_efficiency(self) -> float:
        return max(self.own_s) / self.step_s

    @property
    def parallel_efficiency(self) -> float:
        return self.load_balance * self.communication_efficiency


def split_step(records: Sequence[RankRecord]) -> StepSplit | None:
    """The split of a trial's step from its ranks' raw times; ``None`` where a rank measured none."""
    phases = [record.phases for record in records if record.phases is not None]
    if len(phases) != len(records) or not phases:
        return None
    # Not the mean of each step's slowest rank: where ranks take turns at being late the others catch up.
    step_s = max(fmean(rank_phases.together_s) for rank_phases in phases)
    parts = {name: fmean(fmean(rank_phases.alone_s[name]) for rank_phases in phases) for name in phases[0].alone_s}
    own = tuple(sum(fmean(times) for times in rank_phases.alone_s.values()) for rank_phases in phases)
    return StepSplit(
        data_s=parts["data"],
        forward_s=parts["forward"],
        backward_s=parts["backward"],
        optimizer_s=parts["optimizer"],
        waiting_s=max(own) - fmean(own),
        exposed_s=step_s - max(own),
        step_s=step_s,
        own_s=own,
        straggler=find_straggler(own),
    )


def find_straggler(own_s: Sequence[float]) -> Straggler | None:
    """The slowest rank, where it takes over 20 % (and a millisecond) longer than the median of the others."""
    if len(own_s) < 2:
        return None
    rank = max(range(len(own_s)), key=lambda number: own_s[number])
    others = median(own for number, own in enumerate(own_s) if number != rank)
    delay_s = own_s[rank] - others
    if delay_s < max(STRAGGLER_MIN_DELAY_S, STRAGGLER_SHARE * others):
        return None
    return Straggler(rank=rank, delay_s=delay_s)
