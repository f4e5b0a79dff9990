"""The curves of a sweep: cells that differ in their rank count only, and what their throughputs say together.

Everything that the cells of a sweep say together, found once: what its page and its JSON are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.analysis.bottleneck import Bottleneck, bottlenecks
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import CommunicationPath, communication_paths
from reports.analysis.curve import Curve, fit_curve
from reports.analysis.networks import CellOverLink, compare_networks
from reports.analysis.placement import curve_family
from reports.analysis.placement_effects import PlacementEffects, placement_effects
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS, CurvePrediction, PredictOptions, predict_curves

MIN_CURVE_POINTS = 2
"""Fewer are no curve."""


def cells_by_curve(cells: Sequence[Cell]) -> dict[str, tuple[Cell, ...]]:
    """By the cases' curve key, the cells that feed a claim; the fewest ranks first."""
    found: dict[str, list[Cell]] = {}
    for cell in with_single_rank_baseline(cells):
        if cell.feeds_a_curve:
            found.setdefault(cell.case.curve, []).append(cell)
    return {key: tuple(sorted(curve_cells, key=lambda cell: cell.case.ranks)) for key, curve_cells in found.items()}


def with_single_rank_baseline(cells: Sequence[Cell]) -> list[Cell]:
    """And of each curve that lacks it the measurement at one rank, from a curve of the same work with fewer or more
    ranks on a node: one rank is on one node, whatever others that node had room for."""
    feeding = [cell for cell in cells if cell.feeds_a_curve]
    single_rank_cells = {curve_family(cell.case): cell for cell in feeding if cell.case.ranks == 1}
    with_baseline = {cell.case.curve for cell in feeding if cell.case.ranks == 1}
    without_baseline = {
        cell.case.curve: cell.case
        for cell in feeding
        if cell.case.ranks_per_node and cell.case.curve not in with_baseline
    }
    borrowed = [
        _with_ranks_per_node(single_rank_cells[curve_family(case)], case.ranks_per_node)
        for case in without_baseline.values()
        if curve_family(case) in single_rank_cells
    ]
    return [*cells, *borrowed]


def _with_ranks_per_node(cell: Cell, ranks_per_node: int | None) -> Cell:
    return cell.model_copy(update={"case": cell.case.model_copy(update={"ranks_per_node": ranks_per_node})})


def curves_of(cells: Sequence[Cell]) -> dict[str, Curve]:
    """By the cases' curve key. Cells that feed no claim (oversubscribed, injected, collectives) are left out."""
    curve_cells: dict[str, dict[int, Cell]] = {}
    left_out: dict[str, list[int]] = {}
    for cell in with_single_rank_baseline(cells):
        if cell.feeds_a_curve:
            curve_cells.setdefault(cell.case.curve, {})[cell.case.ranks] = cell
        elif cell.rates and "oversubscribed" in cell.flags:
            left_out.setdefault(cell.case.curve, []).append(cell.case.ranks)
    return {
        key: _curve(key, found, left_out.get(key, []))
        for key, found in curve_cells.items()
        if len(found) >= MIN_CURVE_POINTS
    }


def _curve(key: str, cells: Mapping[int, Cell], left_out: Sequence[int]) -> Curve:
    scaling = next(iter(cells.values())).case.scaling
    curve = fit_curve(key, {ranks: cell.rates for ranks, cell in cells.items()}, scaling=scaling)
    if not left_out:
        return curve
    note = f"left out: {', '.join(map(str, sorted(left_out)))} ranks have more threads than there are cores"
    return curve.model_copy(update={"fit_flags": {**curve.fit_flags, "oversubscribed": note}})


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
