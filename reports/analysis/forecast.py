"""Throughput at rank counts that were not run, from what a step consists of; and how well that explains the measured.

The compute of a rank is extrapolated from its measured parts (:func:`reports.analysis.step_model.fit_own`), the
exchange from α and β. The interval is for one further measurement: with d(N) the mean of ln(measured ÷ modelled)
throughput at each of k rank counts, and s the scatter of trials around it with f degrees of freedom,

    ln X ± √((t(0.975, k)·M·w)² + (t(0.975, f)·s)²),   M² = Σ d² ÷ k,   w = 1 + log₂(N ÷ largest measured N) ≥ 1.

M is taken around 0: nothing is subtracted from the model, so nothing is assumed of how its error goes on. The widening
w says that a model is trusted less with each doubling beyond what was seen; it is a choice, not a theorem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.case import Scaling
from bench.gradients import Gradients
from bench.records import Value
from reports.analysis.scaling import Prediction, around, widening
from reports.analysis.stats import estimate, student_t
from reports.analysis.step_model import OwnModel, OwnTimes, fit_own, predict_step

FEWEST_FOR_AN_INTERVAL = 2
"""Rank counts with an exchange: how far a model is off at one of them tells nothing of how far it may be at others."""


class Carrier(NamedTuple):
    """What carries the messages."""

    time_s: Callable[[int, float], float]
    """By rank count and bytes of a message."""
    core_share: float = 0.0
    """Of a rank's own cores, while it exchanges and does nothing else; 0 where others do the work."""


class Observed(Value):
    """One rank count of a curve, as it was measured."""

    ranks: int
    rates: tuple[float, ...]
    """Throughput of each trial, in samples a second."""
    parts_s: dict[str, float]
    """Own time of a rank by part of a step, its waiting, and what its backend does with gradients (``handling``)."""


class Explained(Value):
    """A measured step beside the model's: measured compute and predicted exchange."""

    ranks: int
    compute_s: float
    modelled_s: float
    measured_s: float

    @property
    def exposed_s(self) -> float:
        """What the exchange adds to the step, by the model."""
        return self.modelled_s - self.compute_s

    @property
    def error(self) -> float:
        """Modelled ÷ measured − 1."""
        return self.modelled_s / self.measured_s - 1


class StepModel(Value):
    """A curve's model, able to say what any rank count gives."""

    scaling: Scaling
    batch: int
    own: OwnModel
    gradients: Gradients
    misfit: float
    """M: how far the modelled throughputs are from the measured, as a root mean square of logarithms."""
    scatter: float
    seen: int
    """k, the rank counts that M is of."""
    freedom: int
    """f, that the scatter is of; 0 where each rank count had one trial."""
    largest_ranks: int

    def step_s(self, ranks: int, carrier: Carrier) -> float:
        own = self.own.at(_share(self.scaling, ranks), alone=ranks == 1)
        return _step(own, self.gradients, ranks, carrier)

    def predict(self, ranks: int, carrier: Carrier) -> Prediction:
        expected = _amount(self.scaling, self.batch, ranks) / self.step_s(ranks, carrier)
        further = ranks > self.largest_ranks
        if self.seen < FEWEST_FOR_AN_INTERVAL:
            return Prediction(ranks=ranks, throughput=expected, low=None, high=None, extrapolated=further)
        chance = student_t(self.freedom) * self.scatter if self.freedom else 0.0
        model = student_t(self.seen) * self.misfit * widening(ranks, self.largest_ranks)
        low, high = around(expected, math.hypot(model, chance))
        return Prediction(ranks=ranks, throughput=expected, low=low, high=high, extrapolated=further)


def explain(
    observed: Sequence[Observed], scaling: Scaling, batch: int, gradients: Gradients, carrier: Carrier
) -> list[Explained]:
    """Each measured step beside the model's, with the compute measured at that very rank count."""
    found = []
    for one in observed:
        own = OwnTimes(**{f"{part}_s": max(0.0, seconds) for part, seconds in one.parts_s.items()})
        measured_s = _amount(scaling, batch, one.ranks) / estimate(one.rates, "samples/s").value
        modelled_s = _step(own, gradients, one.ranks, carrier)
        found.append(
            Explained(ranks=one.ranks, compute_s=own.total_s, modelled_s=modelled_s, measured_s=measured_s)
        )  # fmt: skip
    return found


def fit_steps(
    observed: Sequence[Observed], scaling: Scaling, batch: int, gradients: Gradients, carrier: Carrier | None
) -> StepModel:
    """Fit to every rank count that was measured, in any order. Raises ``ValueError`` for none.

    Without the exchange that was measured nobody knows how far the model is off, and it gives no intervals.
    """
    waits = [one.parts_s["waiting"] for one in observed if one.ranks > 1]
    handling_s = fmean(one.parts_s["handling"] for one in observed)
    own = fit_own(_by_share(observed, scaling), max(0.0, fmean(waits)) if waits else 0.0, handling_s)
    model = StepModel(scaling=scaling, batch=batch, own=own, gradients=gradients, misfit=0.0, scatter=0.0,
                      seen=0, freedom=0, largest_ranks=max(one.ranks for one in observed))  # fmt: skip
    if carrier is None:
        return model
    # One rank exchanges nothing: it says something of the exchange only where there is no other.
    judged = [one for one in observed if one.ranks > 1] or list(observed)
    off = [
        [math.log(rate / model.predict(one.ranks, carrier).throughput) for rate in one.rates] for one in judged
    ]  # fmt: skip
    means = [fmean(one) for one in off]
    freedom = sum(len(one) - 1 for one in off)
    squares = sum((value - mean) ** 2 for one, mean in zip(off, means, strict=True) for value in one)
    return model.model_copy(
        update={
            "misfit": math.sqrt(fmean(mean**2 for mean in means)),
            "scatter": math.sqrt(squares / freedom) if freedom else 0.0,
            "seen": len(judged),
            "freedom": freedom,
        }
    )


def _by_share(observed: Sequence[Observed], scaling: Scaling) -> dict[float, Mapping[str, float]]:
    """The parts by the share of the batch that a rank has; rank counts of the same share are averaged."""
    gathered: dict[float, list[Observed]] = {}
    for one in observed:
        gathered.setdefault(_share(scaling, one.ranks), []).append(one)
    return {
        share: {part: fmean(one.parts_s[part] for one in found) for part in found[0].parts_s}
        for share, found in gathered.items()
    }


def _step(own: OwnTimes, gradients: Gradients, ranks: int, carrier: Carrier) -> float:
    if ranks < 2:
        return own.total_s
    return predict_step(own, gradients, lambda size: carrier.time_s(ranks, size), carrier.core_share)


def _share(scaling: Scaling, ranks: int) -> float:
    return 1 / ranks if scaling == "strong" else 1.0


def _amount(scaling: Scaling, batch: int, ranks: int) -> int:
    return batch if scaling == "strong" else batch * ranks
