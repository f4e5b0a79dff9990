"""Predictions of throughput and efficiency at rank counts that were not run, for each curve of a sweep.

A curve is predicted by its step model (compute, α and β) where that explains the measured steps, else by scaling laws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis import changes, formatting
from reports.analysis.backtest import (
    MIN_RANK_COUNTS_FOR_LAW,
    STEP_MODEL,
    Backtest,
    PredictionKind,
    backtest_curve,
    rates_by_ranks,
)
from reports.analysis.case_titles import CaseFinding
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import (
    CommunicationPath,
    LinkSpec,
    communication_core_share,
    communication_over_link,
    measured_communication,
    path_key,
)
from reports.analysis.curve import fit_curve
from reports.analysis.formatting import percent, rank_count
from reports.analysis.formatting import prediction as prediction_text
from reports.analysis.law_selection import MAX_MISS
from reports.analysis.laws import ScalingLaw
from reports.analysis.operation_models import OperationModels, sharded_cost
from reports.analysis.placement import Placement, place_of, placement_of
from reports.analysis.scaling import Prediction, log_interval
from reports.analysis.stats import Estimate, estimate
from reports.analysis.step_prediction import (
    CommunicationCost,
    ModelledStep,
    StepModel,
    StepModelInputs,
    modelled_steps,
    sharded_step_data,
    step_model_data,
)
from reports.analysis.units import SAMPLES, rate_unit

MIN_DECOMPOSED = 2
DEFAULT_RANK_FACTORS = (2, 4, 8)
AT_SCALE_RANKS = (8, 64, 512, 4096)


class PredictOptions(NamedTuple):
    """What to predict: at which rank counts, with how many ranks per node, and over which hypothetical link."""

    counts: tuple[int, ...] = ()
    """By default 2, 4 and 8 times the largest measured."""
    link: LinkSpec | None = None
    ranks_per_node: int | None = None
    """By default as many as were measured."""


DEFAULT_PREDICT_OPTIONS = PredictOptions()


class PredictionLabels(FrozenModel):
    """The columns of a prediction in tables, as text."""

    ranks: str
    """``512 on 64 nodes``; ``512`` where the ranks per node are neither given nor changed."""
    throughput: str
    efficiency: str
    position: str
    """``measured``, ``interpolated`` or ``extrapolated``: of the rank count among the measured ones."""


class Predicted(FrozenModel):
    """Throughput and efficiency at a rank count, with 95 % intervals for one further measurement."""

    prediction: Prediction
    efficiency: Estimate
    labels: PredictionLabels = Field(exclude=True, repr=False)


class CurvePrediction(CaseFinding):
    """The predictions for one curve. Without any :attr:`reason` says why."""

    curve: str
    measured_at: tuple[int, ...]
    ranks_per_node: int | None = None
    """Of the predictions; ``None``: all on one node."""
    unit: str = rate_unit(SAMPLES)
    """Of its throughputs."""
    kind: PredictionKind | None = None
    model: str = "none"
    """The step model, or the scaling laws, the largest weight first: ``log + amdahl``."""
    weights: dict[ScalingLaw, float] = Field(default={})
    """Of the scaling laws in the predictions."""
    reason: str | None = None
    inputs: StepModelInputs | None = None
    """Of the step model, where it is used."""
    explained: tuple[ModelledStep, ...] = ()
    """The measured steps beside the step model's."""
    misfit: float | None = None
    """Of the step model, as a root mean square of logarithms; ``None`` without a step model."""
    predictions: tuple[Predicted, ...] = Field(default=(), serialization_alias="foretold")
    impossible: tuple[int, ...] = ()
    """Requested rank counts that exceed the samples of a batch."""
    unknown: dict[int, str] = Field(default={})
    """Requested rank counts that can't be predicted, with the reason."""
    at_scale: tuple[Predicted, ...] = ()
    """Over the requested link; without any :attr:`at_scale_reason` says why."""
    at_scale_reason: str | None = None
    backtests: tuple[Backtest, ...] = ()

    def rank_count_label(self, ranks: int) -> str:
        """``512 on 64 nodes``; ``512`` where the ranks per node are neither given nor changed."""
        show_nodes = self.case.ranks_per_node or self.ranks_per_node != placement_of(self.case).ranks_per_node
        return rank_count(Placement(ranks, self.ranks_per_node if show_nodes else None))


def predict_curves(
    curve_cells: Mapping[str, Sequence[Cell]],
    paths: Mapping[str, CommunicationPath],
    options: PredictOptions = DEFAULT_PREDICT_OPTIONS,
    operations: OperationModels = MappingProxyType({}),
) -> tuple[CurvePrediction, ...]:
    """Predict every curve of a sweep.

    Args:
        curve_cells: the cells of each curve by its key, the fewest ranks first.
        paths: the communication paths of the sweep.
        options: what to predict.
        operations: the models of the operations of sharded training.
    """
    predictions = []
    for key, own in curve_cells.items():
        path = paths.get(path_key(own[0].case))
        if any(cell.sharded is not None for cell in own):
            predictions.append(_predict_sharded_curve(key, own, curve_cells, operations, options))
            continue
        curve_prediction = _predict_curve(key, own, path, options)
        predictions.append(
            _predict_over_link(curve_prediction, own, path, options) if options.link else curve_prediction
        )
    return tuple(predictions)


def _unpredicted(
    key: str, cells: Sequence[Cell], path: CommunicationPath | None, options: PredictOptions
) -> tuple[CurvePrediction, list[Placement]]:
    """What is known of a curve before it is predicted, and the placements to predict."""
    case, measured_at = cells[0].case, tuple(cell.case.ranks for cell in cells)
    counts = sorted(set(options.counts)) or [measured_at[-1] * factor for factor in DEFAULT_RANK_FACTORS]
    curve_prediction = CurvePrediction(
        curve=key,
        case=case,
        measured_at=measured_at,
        unit=next((cell.throughput.unit for cell in cells if cell.throughput), rate_unit(SAMPLES)),
        ranks_per_node=options.ranks_per_node or placement_of(case).ranks_per_node,
        impossible=tuple(count for count in counts if not _can_split_batch(case, count)),
        backtests=backtest_curve(cells, path),
    )
    placements = [
        Placement(count, curve_prediction.ranks_per_node) for count in counts if _can_split_batch(case, count)
    ]
    return curve_prediction, placements


def _predict_sharded_curve(
    key: str,
    cells: Sequence[Cell],
    curves: Mapping[str, Sequence[Cell]],
    operations: OperationModels,
    options: PredictOptions,
) -> CurvePrediction:
    """The prediction for sharded training, by its gathers and scatters where they were measured, else by a law."""
    case = cells[0].case
    curve_prediction, placements = _unpredicted(key, cells, None, options)
    if options.link:
        reason = "the exchange of a sharded model over another link is not modelled"
        curve_prediction = curve_prediction.model_copy(update={"at_scale_reason": reason})
    measured = [placement_of(cell.case) for cell in cells if cell.case.ranks > 1]
    places = {placement.place for placement in (*measured, *placements) if placement.ranks > 1}
    step_data = sharded_step_data(cells, curves, MIN_DECOMPOSED)
    cost = (
        sharded_cost(operations, path_key(case), places.pop())
        if len(places) == 1
        else "the ranks are placed in several ways, and a sharded model is predicted for one"
    )
    if isinstance(cost, str) or isinstance(step_data, str):
        missing = "; ".join(problem for problem in (cost, step_data) if isinstance(problem, str))
        return _predict_by_law(curve_prediction, cells, placements, missing)
    model = step_data.fit(cost)
    explained = modelled_steps(step_data.observed, case.scaling, case.batch, step_data.gradients, cost)
    curve_prediction = curve_prediction.model_copy(update={"explained": tuple(explained), "misfit": model.misfit})
    if abs(model.largest_miss) > MAX_MISS:
        return _predict_by_law(curve_prediction, cells, placements, _misfit_reason(model))
    return curve_prediction.model_copy(
        update={
            "kind": "step",
            "model": STEP_MODEL,
            "predictions": tuple(
                _predicted(curve_prediction, model.predict(placement.ranks, cost), cells[0]) for placement in placements
            ),
            "inputs": StepModelInputs(inside=None, across=None, layered=None, source=None, own=model.own),
        }
    )


def _misfit_reason(model: StepModel) -> str:
    miss = changes.signed_percent(model.largest_miss, 0)
    return f"the step model's throughput is off by {miss} at {formatting.ranks(model.missed_ranks)}"


def _predict_curve(
    key: str, cells: Sequence[Cell], path: CommunicationPath | None, options: PredictOptions
) -> CurvePrediction:
    case = cells[0].case
    curve_prediction, placements = _unpredicted(key, cells, path, options)
    step_data, communication = step_model_data(cells, MIN_DECOMPOSED), measured_communication(path, cells)
    reason = step_data if isinstance(step_data, str) else communication if isinstance(communication, str) else None
    if not isinstance(step_data, str) and not isinstance(communication, str) and path is not None:
        model = step_data.fit(communication)
        explained = modelled_steps(step_data.observed, case.scaling, case.batch, step_data.gradients, communication)
        curve_prediction = curve_prediction.model_copy(update={"explained": tuple(explained), "misfit": model.misfit})
        if abs(model.largest_miss) <= MAX_MISS:
            return _predict_by_step_model(curve_prediction, model, path, placements, cells[0])
        reason = _misfit_reason(model)
    return _predict_by_law(curve_prediction, cells, placements, reason)


def _predict_by_step_model(
    curve_prediction: CurvePrediction,
    model: StepModel,
    path: CommunicationPath,
    placements: Sequence[Placement],
    base: Cell,
) -> CurvePrediction:
    """Predictions by the step model; where an exchange was not measured, the reason."""
    unknown = {
        placement.ranks: reason
        for placement in placements
        if (reason := path.unavailable_reason(placement)) is not None
    }
    ranks_per_node = curve_prediction.ranks_per_node
    communication = CommunicationCost(
        lambda ranks, size: path.time_s(Placement(ranks, ranks_per_node), size),
        communication_core_share(path, placements, base.case),
    )
    layered = path.layered if any(placement.place == "both" for placement in placements) else None
    return curve_prediction.model_copy(
        update={
            "kind": "step",
            "model": STEP_MODEL,
            "unknown": unknown,
            "predictions": tuple(
                _predicted(curve_prediction, model.predict(placement.ranks, communication), base)
                for placement in placements
                if placement.ranks not in unknown
            ),
            "inputs": StepModelInputs(
                inside=path.model("inside"),
                across=layered.across if layered else path.model("across"),
                layered=layered.algorithm if layered else None,
                source=layered.source if layered else None,
                own=model.own,
            ),
        }
    )


def _predict_by_law(
    curve_prediction: CurvePrediction, cells: Sequence[Cell], placements: Sequence[Placement], reason: str | None
) -> CurvePrediction:
    """Predictions by a scaling law. It does not model nodes: it applies only to ranks placed as they were measured."""
    if len(cells) < MIN_RANK_COUNTS_FOR_LAW:
        return curve_prediction.model_copy(
            update={"reason": f"{reason}; a scaling law needs {MIN_RANK_COUNTS_FOR_LAW} rank counts"}
        )
    measured_places = {place_of(cell.case) for cell in cells if cell.case.ranks > 1}
    unknown = {}
    if curve_prediction.ranks_per_node is not None:
        elsewhere = curve_prediction.ranks_per_node != placement_of(cells[0].case).ranks_per_node
        unknown = {
            placement.ranks: f"{reason}; a scaling law does not model nodes, and this placement was not measured"
            for placement in placements
            if elsewhere or placement.place not in measured_places
        }
    law = fit_curve(
        curve_prediction.curve,
        rates_by_ranks(cells),
        predict=[placement.ranks for placement in placements if placement.ranks not in unknown],
    )
    if law.prediction_reason is not None:
        return curve_prediction.model_copy(update={"reason": f"{reason}; {law.prediction_reason}"})
    return curve_prediction.model_copy(
        update={
            "kind": "law",
            "model": law.prediction_model or "none",
            "weights": law.prediction_weights,
            "reason": reason,
            "predictions": tuple(_predicted(curve_prediction, prediction, cells[0]) for prediction in law.predictions),
            "unknown": unknown,
        }
    )


def _predict_over_link(
    curve_prediction: CurvePrediction, cells: Sequence[Cell], path: CommunicationPath | None, options: PredictOptions
) -> CurvePrediction:
    """The prediction, with what the curve would give over the requested link.

    It uses the ranks' own work and, where several ranks share a node, the measured exchange inside it.
    """
    step_data = step_model_data(cells, MIN_DECOMPOSED)
    if isinstance(step_data, str):
        return curve_prediction.model_copy(update={"at_scale_reason": step_data})
    communication = (
        communication_over_link(options.link, path, curve_prediction.ranks_per_node or 1)
        if options.link
        else "no link was named"
    )
    if isinstance(communication, str):
        return curve_prediction.model_copy(update={"at_scale_reason": communication})
    model = step_data.fit(None)
    if curve_prediction.misfit is not None:
        # The misfit of the measured steps is a lower bound of the error elsewhere.
        judged = sum(step.ranks > 1 for step in curve_prediction.explained)
        model = model.model_copy(update={"misfit": curve_prediction.misfit, "judged_counts": judged})
    predicted = tuple(
        _predicted(curve_prediction, model.predict(count, communication), cells[0])
        for count in sorted({*AT_SCALE_RANKS, *options.counts})
        if _can_split_batch(curve_prediction.case, count)
    )
    reason = None if predicted else f"a batch of {curve_prediction.case.batch} can't be split over so many ranks"
    return curve_prediction.model_copy(update={"at_scale": predicted, "at_scale_reason": reason})


def _can_split_batch(case: Case, ranks: int) -> bool:
    """A batch can't be split over more ranks than it has samples. Of a program's batch a case knows nothing."""
    return case.scaling == "weak" or case.program is not None or ranks <= case.batch


def _predicted(curve_prediction: CurvePrediction, prediction: Prediction, base: Cell) -> Predicted:
    """With its efficiency, which starts from the smallest measured rank count and includes the interval of that."""
    start = estimate(base.rates, "samples/s")
    ideal = start.value / base.case.ranks * prediction.ranks
    efficiency = Estimate(value=prediction.throughput / ideal, low=None, high=None, n=len(base.rates), unit="1")
    if prediction.low is not None and prediction.high is not None:
        of_base = math.log(start.high / start.value) if start.high is not None else 0.0
        half = math.hypot(math.log(prediction.high / prediction.throughput), of_base)
        low, high = log_interval(efficiency.value, half)
        efficiency = efficiency.model_copy(update={"low": low, "high": high})
    labels = PredictionLabels(
        ranks=curve_prediction.rank_count_label(prediction.ranks),
        throughput=prediction_text(prediction),
        efficiency=percent(efficiency),
        position=_position(prediction.ranks, curve_prediction.measured_at),
    )
    return Predicted(prediction=prediction, efficiency=efficiency, labels=labels)


def _position(ranks: int, measured_at: Sequence[int]) -> str:
    if ranks in measured_at:
        return "measured"
    return "interpolated" if measured_at[0] < ranks < measured_at[-1] else "extrapolated"
