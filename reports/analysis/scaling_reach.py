"""How far a curve scales: up to which rank count it stays efficient, and where its throughput peaks.

What was measured decides; where the measured rank counts do not show the end, predictions do
(:mod:`reports.analysis.predictions`). Where those do not show it either, the answer is *at least*.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from bench.core.frozen_model import FrozenModel
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.curve import Curve
from reports.analysis.predictions import CurvePrediction, Predicted
from reports.analysis.stats import Estimate

EFFICIENCY_BAR = 0.75
"""A curve scales as far as its parallel efficiency is at least so large."""
MIN_POINTS = 2
"""Fewer rank counts say nothing of scaling."""
Source = Literal["measured", "predicted"]


class RanksReached(FrozenModel):
    """A rank count that a curve reaches, and what is known beyond it."""

    ranks: int | None
    """``None``: unknown, and :attr:`reason` says why."""
    source: Source = "measured"
    """Whether :attr:`value` was measured or predicted."""
    at_least: bool = False
    """Nothing that was measured or predicted shows an end: the curve may reach further."""
    value: Estimate | None = None
    """The efficiency (a share), or the throughput, at :attr:`ranks`."""
    next_ranks: int | None = None
    """The smallest known rank count beyond it."""
    next_value: Estimate | None = None
    """The efficiency, or the throughput, there."""
    next_source: Source = "measured"
    """Whether that was measured or predicted."""
    reason: str | None = None
    """Why it is unknown, or what limits the answer."""

    @property
    def ranks_text(self) -> str:
        """``8 ranks``, ``≥ 8 ranks``, ``32 ranks (predicted)``, ``unknown``."""
        if self.ranks is None:
            return "unknown"
        predicted = " (predicted)" if self.source == "predicted" else ""
        return f"{'≥ ' if self.at_least else ''}{formatting.ranks(self.ranks)}{predicted}"


class _Known(NamedTuple):
    """A value at a rank count."""

    ranks: int
    value: Estimate
    source: Source


def unknown_reach(reason: str) -> RanksReached:
    """Nothing is known, for this reason."""
    return RanksReached(ranks=None, reason=reason)


def efficient_to(cells: Sequence[Cell], prediction: CurvePrediction | None) -> RanksReached:
    """The last rank count before efficiency falls below :data:`EFFICIENCY_BAR`.

    Args:
        cells: Of one curve that feed a scaling claim, the fewest ranks first.
        prediction: Of the same curve; ``None``: there is none.
    """
    measured = [_Known(cell.case.ranks, cell.efficiency, "measured") for cell in cells if cell.efficiency is not None]
    if len(measured) < MIN_POINTS:
        return unknown_reach("efficiency needs two rank counts")
    predicted = [_Known(item.prediction.ranks, item.efficiency, "predicted") for item in _beyond(cells, prediction)]
    known = [*measured, *predicted]
    for last, after in pairwise(known):
        if after.value.value < EFFICIENCY_BAR:
            return _reached(last, after, _unclear_bar(after) or _unclear_bar(last))
    return _without_end(known[-1], prediction)


def throughput_peak(cells: Sequence[Cell], curve: Curve | None, prediction: CurvePrediction | None) -> RanksReached:
    """The rank count with the highest throughput.

    Args:
        cells: Of one curve that feed a scaling claim, the fewest ranks first.
        curve: The curve with its law, whose peak may lie between predicted rank counts; ``None``: there is none.
        prediction: Of the same curve; ``None``: there is none.
    """
    measured = [_Known(cell.case.ranks, cell.throughput, "measured") for cell in cells if cell.throughput is not None]
    if len(measured) < MIN_POINTS:
        return unknown_reach("a peak needs two rank counts")
    highest = max(measured, key=_value)
    if highest is not measured[-1]:
        return _reached(highest, measured[measured.index(highest) + 1])
    by_law = prediction is not None and prediction.kind == "law"
    if by_law and curve is not None and curve.peak_ranks is not None and curve.peak_ranks > highest.ranks:
        return RanksReached(ranks=round(curve.peak_ranks), source="predicted", reason="the peak of the fitted law")
    predicted = (_predicted_throughput(item, highest.value.unit) for item in _beyond(cells, prediction))
    known = [highest, *predicted]
    highest = max(known, key=_value)
    if highest is known[-1]:
        return _without_end(highest, prediction)
    return _reached(highest, known[known.index(highest) + 1])


def _value(known: _Known) -> float:
    return known.value.value


def _reached(last: _Known, after: _Known, reason: str | None = None) -> RanksReached:
    return RanksReached(
        ranks=last.ranks,
        source=last.source,
        value=last.value,
        next_ranks=after.ranks,
        next_value=after.value,
        next_source=after.source,
        reason=reason,
    )


def _unclear_bar(known: _Known) -> str | None:
    low, high = known.value.low, known.value.high
    if known.source == "predicted" or low is None or high is None or not low < EFFICIENCY_BAR < high:
        return None
    return f"the interval at {formatting.ranks(known.ranks)} includes {formatting.share(EFFICIENCY_BAR)}"


def _without_end(last: _Known, prediction: CurvePrediction | None) -> RanksReached:
    reason = f"beyond {formatting.ranks(last.ranks)} {_unpredicted(prediction)}"
    return RanksReached(ranks=last.ranks, source=last.source, at_least=True, value=last.value, reason=reason)


def _unpredicted(prediction: CurvePrediction | None) -> str:
    """Why there are no predictions, or no further ones; the table of predictions has the reason in full."""
    if prediction is not None and prediction.kind is not None and prediction.impossible and not prediction.unknown:
        return f"a batch of {prediction.case.batch:,} can't be split"
    return "nothing was measured or predicted"


def _beyond(cells: Sequence[Cell], prediction: CurvePrediction | None) -> list[Predicted]:
    """The predictions at more ranks than were measured, the fewest first."""
    most = cells[-1].case.ranks
    every = prediction.predictions if prediction is not None else ()
    return sorted((item for item in every if item.prediction.ranks > most), key=lambda item: item.prediction.ranks)


def _predicted_throughput(item: Predicted, unit: str) -> _Known:
    found = item.prediction
    value = Estimate(value=found.throughput, low=found.low, high=found.high, n=item.efficiency.n, unit=unit)
    return _Known(found.ranks, value, "predicted")
