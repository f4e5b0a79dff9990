"""What each curve of a sweep is expected to give at rank counts that were not run, and how good such a word is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
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
from reports.analysis.communication import AllreduceModel
from reports.analysis.communication_paths import (
    CommunicationPath,
    LinkSpec,
    communication_core_share,
    communication_over_link,
    measured_communication,
    path_key,
)
from reports.analysis.curve import fit_curve
from reports.analysis.layered_allreduce import AlgorithmSource, LayeredAlgorithm
from reports.analysis.placement import Placement, place_of, placement_of
from reports.analysis.scaling import Prediction, log_interval
from reports.analysis.stats import Estimate, estimate
from reports.analysis.step_model import OwnTimeModel
from reports.analysis.step_prediction import (
    CommunicationCost,
    ModelledStep,
    StepModel,
    modelled_steps,
    step_model_data,
)

MIN_DECOMPOSED = 2
MAX_TRUSTED_MISFIT = 0.2
"""A step model that misses the measured by more is not used to foretell."""
DEFAULT_RANK_FACTORS = (2, 4, 8)
AT_SCALE_RANKS = (8, 64, 512, 4096)


class PredictOptions(NamedTuple):
    """What is to be foretold: where, how many ranks a node holds there, and over which link that was not measured."""

    counts: tuple[int, ...] = ()
    """Without any: 2, 4 and 8 times the largest."""
    link: LinkSpec | None = None
    ranks_per_node: int | None = None
    """Without it: as many as were measured."""


DEFAULT_PREDICT_OPTIONS = PredictOptions()


class Predicted(FrozenModel):
    """Throughput and efficiency at a rank count, with 95 % intervals for one further measurement."""

    prediction: Prediction
    efficiency: Estimate


class StepModelInputs(FrozenModel):
    """What the step model of a curve is made of."""

    inside: AllreduceModel | None
    """α and β inside a node."""
    across: AllreduceModel | None
    """α and β of the link between nodes."""
    layered: LayeredAlgorithm | None
    """What several ranks on each of several nodes are taken to run, as :attr:`source` says."""
    source: AlgorithmSource | None
    own: OwnTimeModel
    """What a rank does by itself."""


class CurvePrediction(CaseFinding):
    """All that is foretold of one curve. Without predictions :attr:`reason` says why."""

    curve: str
    measured_at: tuple[int, ...]
    ranks_per_node: int | None = None
    """Where it is foretold; ``None``: all on one node."""
    kind: PredictionKind | None = None
    model: str = "none"
    reason: str | None = None
    inputs: StepModelInputs | None = None
    """Of the step model, where it is used."""
    explained: tuple[ModelledStep, ...] = ()
    misfit: float | None = None
    """Of the step model, where there is one."""
    foretold: tuple[Predicted, ...] = ()
    impossible: tuple[int, ...] = ()
    """Rank counts that were asked for and have no share of the batch."""
    unknown: dict[int, str] = Field(default={})
    """Rank counts that were asked for and can't be foretold, with the reason."""
    at_scale: tuple[Predicted, ...] = ()
    """Over the link that was asked about; without any :attr:`at_scale_reason` says why."""
    at_scale_reason: str | None = None
    backtests: tuple[Backtest, ...] = ()


def predict_curves(
    curve_cells: Mapping[str, Sequence[Cell]],
    paths: Mapping[str, CommunicationPath],
    options: PredictOptions = DEFAULT_PREDICT_OPTIONS,
) -> tuple[CurvePrediction, ...]:
    """One a curve; ``fed``: its cells, the fewest ranks first."""
    predictions = []
    for key, own in curve_cells.items():
        path = paths.get(path_key(own[0].case))
        curve_prediction = _predict_curve(key, own, path, options)
        predictions.append(
            _predict_over_link(curve_prediction, own, path, options) if options.link else curve_prediction
        )
    return tuple(predictions)


def _predict_curve(
    key: str, cells: Sequence[Cell], path: CommunicationPath | None, options: PredictOptions
) -> CurvePrediction:
    case, measured_at = cells[0].case, tuple(cell.case.ranks for cell in cells)
    counts = sorted(set(options.counts)) or [measured_at[-1] * factor for factor in DEFAULT_RANK_FACTORS]
    curve_prediction = CurvePrediction(
        curve=key,
        case=case,
        measured_at=measured_at,
        ranks_per_node=options.ranks_per_node or placement_of(case).ranks_per_node,
        impossible=tuple(count for count in counts if not _can_split_batch(case, count)),
        backtests=backtest_curve(cells, path),
    )
    placements = [
        Placement(count, curve_prediction.ranks_per_node) for count in counts if _can_split_batch(case, count)
    ]
    step_data, communication = step_model_data(cells, MIN_DECOMPOSED), measured_communication(path, cells)
    reason = step_data if isinstance(step_data, str) else communication if isinstance(communication, str) else None
    if not isinstance(step_data, str) and not isinstance(communication, str) and path is not None:
        model = step_data.fit(communication)
        explained = modelled_steps(step_data.observed, case.scaling, case.batch, step_data.gradients, communication)
        curve_prediction = curve_prediction.model_copy(update={"explained": tuple(explained), "misfit": model.misfit})
        if model.misfit <= MAX_TRUSTED_MISFIT:
            return _predict_by_step_model(curve_prediction, model, path, placements, cells[0])
        reason = f"the step model misses the measured steps by {model.misfit:.0%}"
    return _predict_by_law(curve_prediction, cells, placements, reason)


def _predict_by_step_model(
    curve_prediction: CurvePrediction,
    model: StepModel,
    path: CommunicationPath,
    placements: Sequence[Placement],
    base: Cell,
) -> CurvePrediction:
    """What the parts of a step give; where an exchange was not measured, the reason."""
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
            "foretold": tuple(
                _predicted(model.predict(placement.ranks, communication), base)
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
    """What a law of scaling gives, which knows no nodes: it speaks where ranks are placed as they were measured."""
    if len(cells) < MIN_RANK_COUNTS_FOR_LAW:
        return curve_prediction.model_copy(
            update={"reason": f"{reason}; a law of scaling takes {MIN_RANK_COUNTS_FOR_LAW} rank counts"}
        )
    measured_places = {place_of(cell.case) for cell in cells if cell.case.ranks > 1}
    unknown = {}
    if curve_prediction.ranks_per_node is not None:
        elsewhere = curve_prediction.ranks_per_node != placement_of(cells[0].case).ranks_per_node
        unknown = {
            placement.ranks: f"{reason}; a law of scaling knows no nodes, and none was measured with ranks placed so"
            for placement in placements
            if elsewhere or placement.place not in measured_places
        }
    law = fit_curve(
        curve_prediction.curve,
        rates_by_ranks(cells),
        predict=[placement.ranks for placement in placements if placement.ranks not in unknown],
    )
    foretold = tuple(_predicted(prediction, cells[0]) for prediction in law.predictions)
    return curve_prediction.model_copy(
        update={"kind": "law", "model": law.model or "none", "reason": reason, "foretold": foretold, "unknown": unknown}
    )


def _predict_over_link(
    curve_prediction: CurvePrediction, cells: Sequence[Cell], path: CommunicationPath | None, options: PredictOptions
) -> CurvePrediction:
    """With what the curve would give over another link: it takes the ranks' own work, and of measured exchanges only
    the one inside a node where several ranks share one."""
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
        # How far the model is off where it could be judged is the least that it may be off elsewhere.
        judged = sum(step.ranks > 1 for step in curve_prediction.explained)
        model = model.model_copy(update={"misfit": curve_prediction.misfit, "seen": judged})
    predicted = tuple(
        _predicted(model.predict(count, communication), cells[0])
        for count in sorted({*AT_SCALE_RANKS, *options.counts})
        if _can_split_batch(curve_prediction.case, count)
    )
    reason = None if predicted else f"a batch of {curve_prediction.case.batch} can't be cut into that many"
    return curve_prediction.model_copy(update={"at_scale": predicted, "at_scale_reason": reason})


def _can_split_batch(case: Case, ranks: int) -> bool:
    """A batch can't be cut into more pieces than it has samples."""
    return case.scaling == "weak" or ranks <= case.batch


def _predicted(prediction: Prediction, base: Cell) -> Predicted:
    """Efficiency starts from the smallest measured rank count, which has an interval of its own."""
    start = estimate(base.rates, "samples/s")
    ideal = start.value / base.case.ranks * prediction.ranks
    efficiency = Estimate(value=prediction.throughput / ideal, low=None, high=None, n=len(base.rates), unit="1")
    if prediction.low is not None and prediction.high is not None:
        of_base = math.log(start.high / start.value) if start.high is not None else 0.0
        half = math.hypot(math.log(prediction.high / prediction.throughput), of_base)
        low, high = log_interval(efficiency.value, half)
        efficiency = efficiency.model_copy(update={"low": low, "high": high})
    return Predicted(prediction=prediction, efficiency=efficiency)
