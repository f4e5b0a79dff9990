"""Back-tests: the largest measured rank count of a curve, as it would have been predicted from the smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bench.core.frozen_model import FrozenModel
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import CommunicationPath, measured_communication
from reports.analysis.curve import fit_curve
from reports.analysis.placement import place_of, placement_of
from reports.analysis.scaling import Prediction
from reports.analysis.stats import Estimate
from reports.analysis.step_prediction import step_model_data

PredictionKind = Literal["step", "law"]
"""``step``: from compute, α and β; ``law``: the scaling laws that describe the curve, weighted."""
STEP_MODEL = "compute + α–β"
MIN_RANK_COUNTS_FOR_LAW = 3


class Backtest(FrozenModel):
    """The prediction of the largest measured rank count from the smaller ones, beside the measurement."""

    kind: PredictionKind
    model: str
    smaller: tuple[int, ...]
    exchange_ranks: tuple[int, ...] = ()
    """The rank counts of the allreduces that α and β were fitted to."""
    prediction: Prediction
    measured: Estimate

    @property
    def error(self) -> float:
        """Predicted ÷ measured − 1."""
        return self.prediction.throughput / self.measured.value - 1

    @property
    def held(self) -> bool | None:
        """Whether the interval contains the measured value; ``None`` where there is no interval."""
        if self.prediction.low is None or self.prediction.high is None:
            return None
        return self.prediction.low <= self.measured.value <= self.prediction.high


def backtest_curve(cells: Sequence[Cell], path: CommunicationPath | None) -> tuple[Backtest, ...]:
    """Back-test each model that the smaller rank counts allow.

    The allreduces at the most nodes (on one node: at the most ranks) are excluded too, unless no smaller count
    exchanges at the same place: the compute of one rank and the allreduces of two ranks then predict the step of two
    ranks, which neither includes.
    """
    smaller, last = cells[:-1], cells[-1]
    if last.throughput is None:
        return ()
    ranks, counts = last.case.ranks, tuple(cell.case.ranks for cell in smaller)
    backtests = []
    measured_places = {place_of(cell.case) for cell in smaller if cell.case.ranks > 1}
    fitted_path = (
        path.fitted_below(placement_of(last.case))
        if path is not None and place_of(last.case) in measured_places
        else path
    )
    step_data, communication = step_model_data(smaller, 1), measured_communication(fitted_path, [last])
    if not isinstance(step_data, str) and not isinstance(communication, str) and fitted_path is not None:
        backtests.append(
            Backtest(
                kind="step",
                model=STEP_MODEL,
                smaller=counts,
                exchange_ranks=fitted_path.rank_counts(place_of(last.case)),
                measured=last.throughput,
                prediction=step_data.fit(communication).predict(ranks, communication),
            )
        )
    if len(smaller) >= MIN_RANK_COUNTS_FOR_LAW:
        law = fit_curve("", rates_by_ranks(smaller), predict=(ranks,))
        if law.predictions:
            backtests.append(
                Backtest(
                    kind="law",
                    model=law.prediction_model,
                    smaller=counts,
                    measured=last.throughput,
                    prediction=law.predictions[0],
                )
            )
    return tuple(backtests)


def rates_by_ranks(cells: Sequence[Cell]) -> dict[int, tuple[float, ...]]:
    """The throughputs of the trials of a curve, by rank count."""
    return {cell.case.ranks: cell.rates for cell in cells}
