"""Everything that the cells of a sweep say together, found once: what its page and its JSON are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.analysis.curve import Curve
from reports.cells import Cell
from reports.curves import cells_by_curve, curves_of
from reports.exchanges import CommunicationPath, communication_paths
from reports.forecasts import DEFAULT_PREDICT_OPTIONS, CurvePrediction, PredictOptions, predict_curves
from reports.networks import CellOverLink, compare_networks
from reports.placements import PlacementEffects, placement_effects
from reports.why import Bottleneck, bottlenecks


@dataclass(frozen=True)
class Findings:
    """Of one sweep, or of several side by side whose cells are labelled."""

    cells: tuple[Cell, ...]
    curves: Mapping[str, Curve]
    """By the cases' curve key."""
    curve_cells: Mapping[str, tuple[Cell, ...]]
    """The cells that each curve is made of, the fewest ranks first."""
    bottlenecks: tuple[Bottleneck, ...]
    exchanges: Mapping[str, CommunicationPath]
    curve_predictions: tuple[CurvePrediction, ...]
    options: PredictOptions
    placements: PlacementEffects
    networks: tuple[CellOverLink, ...]
    """Cells of curves that were measured over several networks."""


def analyse_cells(cells: Sequence[Cell], options: PredictOptions = DEFAULT_PREDICT_OPTIONS) -> Findings:
    """``asked``: what is to be foretold."""
    curves, curve_cells = curves_of(cells), cells_by_curve(cells)
    exchanges = communication_paths(cells)
    forecasts = predict_curves({key: curve_cells[key] for key in curves}, exchanges, options)
    return Findings(
        cells=tuple(cells),
        curves=curves,
        curve_cells=curve_cells,
        bottlenecks=bottlenecks(curve_cells, curves),
        exchanges=exchanges,
        curve_predictions=forecasts,
        options=options,
        placements=placement_effects(cells),
        networks=compare_networks(cells, forecasts),
    )
