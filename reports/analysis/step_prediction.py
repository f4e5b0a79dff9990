"""The step model of a curve: throughput at any rank count from compute and exchange, and its misfit of measured steps.

The compute of a rank is extrapolated from its measured parts (:func:`reports.analysis.step_model.fit_own_times`), the
exchange from α and β. The interval is for one further measurement: with d(N) the mean of ln(measured ÷ modelled)
throughput at each of k rank counts, and s the scatter of trials around it with f degrees of freedom,

    ln X ± √((t(0.975, k)·M·w)² + (t(0.975, f)·s)²),   M² = Σ d² ÷ k,   w = 1 + log₂(N ÷ largest measured N) ≥ 1.

M is taken around 0: the model is not corrected by its error, so nothing is assumed of how the error continues. The
widening w, by choice, trusts a model less with each doubling beyond the measured rank counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.core.case import Case, Scaling
from bench.core.frozen_model import FrozenModel
from bench.core.gradients import Gradients, ShardedUnits
from reports.analysis.cell_details import Decomposition
from reports.analysis.cells import Cell
from reports.analysis.communication import AllreduceModel
from reports.analysis.layered_allreduce import AlgorithmSource, LayeredAlgorithm
from reports.analysis.scaling import Prediction, extrapolation_widening, log_interval
from reports.analysis.sharded_step import donor_of, predict_sharded_step
from reports.analysis.stats import estimate, student_t
from reports.analysis.step_model import OwnTimeModel, OwnTimes, fit_own_times, predict_step
from reports.analysis.step_times import OWN_PARTS

MIN_RANK_COUNTS_FOR_INTERVAL = 2
"""Rank counts with an exchange: the error at a single one says nothing about the error at others."""


class CommunicationCost(NamedTuple):
    """The cost of exchanging messages."""

    time_s: Callable[[int, float], float]
    """The time of one message by rank count and bytes."""
    core_share: float = 0.0
    """The share of a rank's own cores that an exchange alone keeps busy; 0 where other hardware computes."""


class ShardedCost(NamedTuple):
    """The cost of the operations of sharded training: seconds by the number of ranks and the bytes of the whole."""

    gather_s: Callable[[int, float], float]
    scatter_s: Callable[[int, float], float]


Exchanged = Gradients | ShardedUnits
"""What the ranks exchange in a step: gradients, or the units of a sharded model."""
ExchangeCost = CommunicationCost | ShardedCost


class Observed(FrozenModel):
    """One measured rank count of a curve."""

    ranks: int
    rates: tuple[float, ...]
    """Throughput of each trial, in samples a second."""
    parts_s: dict[str, float]
    """The own time of a rank by part of a step, its ``waiting``, and its backend's ``handling`` of gradients."""


class ModelledStep(FrozenModel):
    """A measured step beside the model's: measured compute and predicted exchange."""

    ranks: int
    compute_s: float
    modelled_s: float
    measured_s: float

    @property
    def exposed_s(self) -> float:
        """The exposed communication by the model."""
        return self.modelled_s - self.compute_s

    @property
    def error(self) -> float:
        """Modelled ÷ measured − 1."""
        return self.modelled_s / self.measured_s - 1


class StepModel(FrozenModel):
    """The step model of a curve."""

    scaling: Scaling
    batch: int
    own: OwnTimeModel
    gradients: Exchanged
    misfit: float
    """M: the root mean square of ln(measured ÷ modelled) throughput."""
    largest_miss: float = 0.0
    """Modelled ÷ measured throughput − 1 at :attr:`missed_ranks`, where it is furthest from 0."""
    missed_ranks: int = 1
    scatter: float
    """s: of ln throughput over trials."""
    judged_counts: int
    """k: the number of rank counts behind M."""
    degrees_of_freedom: int
    """f: the degrees of freedom of the scatter; 0 where each rank count had one trial."""
    largest_ranks: int

    def step_s(self, ranks: int, communication: ExchangeCost) -> float:
        """The time of a step."""
        own = self.own.at(_batch_share(self.scaling, ranks), alone=ranks == 1)
        return _step_time_s(own, self.gradients, ranks, communication)

    def predict(self, ranks: int, communication: ExchangeCost) -> Prediction:
        """The throughput in samples per second, with an interval where the misfit is known well enough."""
        expected = _samples_per_step(self.scaling, self.batch, ranks) / self.step_s(ranks, communication)
        further = ranks > self.largest_ranks
        if self.judged_counts < MIN_RANK_COUNTS_FOR_INTERVAL:
            return Prediction(ranks=ranks, throughput=expected, low=None, high=None, extrapolated=further)
        chance = student_t(self.degrees_of_freedom) * self.scatter if self.degrees_of_freedom else 0.0
        model = student_t(self.judged_counts) * self.misfit * extrapolation_widening(ranks, self.largest_ranks)
        low, high = log_interval(expected, math.hypot(model, chance))
        return Prediction(ranks=ranks, throughput=expected, low=low, high=high, extrapolated=further)


def modelled_steps(
    observed: Sequence[Observed], scaling: Scaling, batch: int, gradients: Exchanged, communication: ExchangeCost
) -> list[ModelledStep]:
    """Each measured step beside the model's, which takes the compute measured at the same rank count."""
    steps = []
    for point in observed:
        own = OwnTimes(**{f"{part}_s": max(0.0, seconds) for part, seconds in point.parts_s.items()})
        measured_s = _samples_per_step(scaling, batch, point.ranks) / estimate(point.rates, "samples/s").value
        modelled_s = _step_time_s(own, gradients, point.ranks, communication)
        steps.append(
            ModelledStep(ranks=point.ranks, compute_s=own.total_s, modelled_s=modelled_s, measured_s=measured_s)
        )
    return steps


def fit_step_model(
    observed: Sequence[Observed],
    scaling: Scaling,
    batch: int,
    gradients: Exchanged,
    communication: ExchangeCost | None,
) -> StepModel:
    """Fit the step model of a curve.

    Args:
        observed: every measured rank count, in any order.
        scaling: strong or weak.
        batch: samples per step: of all ranks under strong scaling, of each under weak.
        gradients: what a rank exchanges.
        communication: the measured exchange; without it the misfit is unknown, and predictions have no intervals.

    Raises:
        ValueError: nothing was observed.
    """
    waits = [point.parts_s["waiting"] for point in observed if point.ranks > 1]
    handling_s = fmean(point.parts_s["handling"] for point in observed)
    own = fit_own_times(_by_share(observed, scaling), max(0.0, fmean(waits)) if waits else 0.0, handling_s)
    model = StepModel(
        scaling=scaling,
        batch=batch,
        own=own,
        gradients=gradients,
        misfit=0.0,
        scatter=0.0,
        judged_counts=0,
        degrees_of_freedom=0,
        largest_ranks=max(point.ranks for point in observed),
    )
    if communication is None:
        return model
    # A single rank exchanges nothing: it judges the model only where there is no other.
    judged = [point for point in observed if point.ranks > 1] or list(observed)
    log_errors = [
        [math.log(rate / model.predict(point.ranks, communication).throughput) for rate in point.rates]
        for point in judged
    ]
    means = [fmean(point) for point in log_errors]
    misses = {point.ranks: math.expm1(-mean) for point, mean in zip(judged, means, strict=True)}
    missed_ranks = max(misses, key=lambda ranks: abs(misses[ranks]))
    freedom = sum(len(point) - 1 for point in log_errors)
    squares = sum((value - mean) ** 2 for point, mean in zip(log_errors, means, strict=True) for value in point)
    return model.model_copy(
        update={
            "misfit": math.sqrt(fmean(mean**2 for mean in means)),
            "largest_miss": misses[missed_ranks],
            "missed_ranks": missed_ranks,
            "scatter": math.sqrt(squares / freedom) if freedom else 0.0,
            "judged_counts": len(judged),
            "degrees_of_freedom": freedom,
        }
    )


def _by_share(observed: Sequence[Observed], scaling: Scaling) -> dict[float, Mapping[str, float]]:
    """The parts by the share of the batch that a rank has; rank counts of the same share are averaged."""
    gathered: dict[float, list[Observed]] = {}
    for point in observed:
        gathered.setdefault(_batch_share(scaling, point.ranks), []).append(point)
    return {
        share: {part: fmean(point.parts_s[part] for point in points) for part in points[0].parts_s}
        for share, points in gathered.items()
    }


def _step_time_s(own: OwnTimes, exchanged: Exchanged, ranks: int, communication: ExchangeCost) -> float:
    if ranks < 2:
        return own.total_s
    if isinstance(exchanged, ShardedUnits):
        assert isinstance(communication, ShardedCost)
        cost = communication
        return predict_sharded_step(
            own, exchanged, lambda size: cost.gather_s(ranks, size), lambda size: cost.scatter_s(ranks, size)
        )
    assert isinstance(communication, CommunicationCost)
    gradients = exchanged
    return predict_step(own, gradients, lambda size: communication.time_s(ranks, size), communication.core_share)


def _batch_share(scaling: Scaling, ranks: int) -> float:
    return 1 / ranks if scaling == "strong" else 1.0


def _samples_per_step(scaling: Scaling, batch: int, ranks: int) -> int:
    return batch if scaling == "strong" else batch * ranks


class StepModelInputs(FrozenModel):
    """The parameters of the step model of a curve."""

    inside: AllreduceModel | None
    """α and β inside a node."""
    across: AllreduceModel | None
    """α and β of the link between nodes."""
    layered: LayeredAlgorithm | None
    """The algorithm of several ranks on each of several nodes; :attr:`source` says how it is known."""
    source: AlgorithmSource | None
    own: OwnTimeModel
    """The own work of a rank."""


class StepModelData(NamedTuple):
    """What a step model is fitted to, except the exchange."""

    observed: list[Observed]
    gradients: Exchanged
    case: Case

    def fit(self, communication: ExchangeCost | None) -> StepModel:
        """See :func:`fit_step_model`."""
        return fit_step_model(self.observed, self.case.scaling, self.case.batch, self.gradients, communication)


def step_model_data(cells: Sequence[Cell], fewest: int) -> StepModelData | str:
    """The step data of the cells of a curve, or the reason why they don't suffice for a model.

    ``fewest``: the number of decomposed rank counts that is needed.
    """
    gradients = next((cell.gradients for cell in cells if cell.gradients is not None), None)
    if gradients is None:
        return "the gradients that a step exchanges are not known"
    if any(cell.decomposition and not cell.decomposition.parts_s.keys() >= set(OWN_PARTS) for cell in cells):
        return "the parts of a step that is replayed as a CUDA graph can't be told apart"
    counted = {(own.amount_per_step == cell.case.global_batch, own.unit) for cell in cells for own in cell.measures}
    if other := next((unit for as_samples, unit in sorted(counted) if not as_samples), None):
        return f"the step model counts the samples of a batch; this workload counts {other} of its own"
    single_rank_split = next(
        (cell.decomposition for cell in cells if cell.case.ranks == 1 and cell.decomposition), None
    )
    # What a single rank's step takes beyond its parts is the backend's handling of gradients, if it does nothing else.
    handling_s = max(0.0, single_rank_split.parts_s["unattributed"].value) if single_rank_split else 0.0
    observed = [
        Observed(
            ranks=cell.case.ranks,
            rates=cell.rates,
            parts_s=_own_parts(cell.decomposition, handling_s),
        )
        for cell in cells
        if cell.decomposition is not None
    ]
    if len(observed) < fewest:
        return f"{len(observed)} rank counts were decomposed, {fewest} are needed"
    return StepModelData(observed, gradients, cells[0].case)


def sharded_step_data(cells: Sequence[Cell], curves: Mapping[str, Sequence[Cell]], fewest: int) -> StepModelData | str:
    """The step data of a curve of sharded training, or the reason why they don't suffice for a model.

    Its ranks' own times are those of another backend (:mod:`reports.analysis.sharded_step`).

    Args:
        cells: Of the curve.
        curves: The cells of all curves of the sweep.
        fewest: The number of rank counts that is needed.
    """
    units = next((cell.sharded for cell in cells if cell.sharded is not None), None)
    if units is None:
        return "how the model is sharded is not known"
    if any(own.amount_per_step != cell.case.global_batch for cell in cells for own in cell.measures):
        return "the step model counts the samples of a batch; this workload counts another unit of its own"
    donor = donor_of(cells, curves)
    if donor is None:
        return (
            "a sharded model's own compute can't be timed beside its exchange, and no backend that can leave out its "
            "exchange ran the same work: add ddp to --backends"
        )
    parts = {cell.case.ranks: cell.decomposition for cell in donor if cell.decomposition is not None}
    handling_s = _handling_of_shards(cells[0], parts.get(1))
    observed = [
        Observed(
            ranks=cell.case.ranks, rates=cell.rates, parts_s=_sharded_parts(decomposition, cell.case.ranks, handling_s)
        )
        for cell in cells
        if (decomposition := parts.get(cell.case.ranks)) is not None
    ]
    if len(observed) < fewest:
        return f"{donor[0].case.backend} was decomposed at {len(observed)} of its rank counts, {fewest} are needed"
    return StepModelData(observed, units, cells[0].case)


def _handling_of_shards(smallest: Cell, single_rank_split: Decomposition | None) -> float:
    """What a single rank's step takes beyond the parts: it copies units into and out of shards, and exchanges none."""
    if smallest.case.ranks > 1 or single_rank_split is None or not smallest.rates:
        return 0.0
    step_s = smallest.case.global_batch / estimate(smallest.rates, "samples/s").value
    return max(0.0, step_s - sum(_own_parts(single_rank_split, 0.0).values()))


def _sharded_parts(decomposition: Decomposition, ranks: int, handling_s: float) -> dict[str, float]:
    """Each rank's optimizer updates its shards alone."""
    own = _own_parts(decomposition, handling_s)
    return own | {"optimizer": own["optimizer"] / ranks}


def _own_parts(decomposition: Decomposition, handling_s: float) -> dict[str, float]:
    modelled = (*OWN_PARTS, "waiting")
    return {**{name: decomposition.parts_s[name].value for name in modelled}, "handling": handling_s}
