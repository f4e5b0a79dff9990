"""Everything that the cells of a sweep say together, computed once: its page and its JSON are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.analysis import case_titles
from reports.analysis.axes import (
    AxisComparison,
    compare_axes,
    find_axes,
    with_axis_values,
    without_setting,
)
from reports.analysis.bottleneck import Bottleneck, bottlenecks
from reports.analysis.case_groups import group_numbers
from reports.analysis.case_titles import within_workload
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import CommunicationPath, communication_paths
from reports.analysis.curve import Curve, fit_curve
from reports.analysis.decisions import Decisions
from reports.analysis.flags import NO_SCALING_CLAIM, claim_problem
from reports.analysis.formatting import message_size, ranks
from reports.analysis.operation_models import OperationModel, operation_models
from reports.analysis.placement import curve_family
from reports.analysis.placement_effects import CellOverLink, PlacementEffects, compare_networks, placement_effects
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS, CurvePrediction, PredictOptions, predict_curves
from reports.analysis.price import NO_PRICING, PricedCell, Pricing, price_cells

MIN_CURVE_POINTS = 2
"""Fewer points make no curve."""
MAX_PREDICTED = 100
"""A prediction by laws fits each of them to each part of a curve. Of a sweep with more curves the first ones are
predicted, unless rank counts, a link or ranks per node are asked for."""


@dataclass(frozen=True)
class CellGroup:
    """The cells of one figure: the same workload and options, scaling, device, batch and seed, but for the axes whose
    values the labels of its cells name. At least one."""

    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        """The workload, the largest message of a collective, and the data that stands in for the real one."""
        first = self.cells[0].labels
        messages = [message for cell in self.cells for message in cell.messages]
        if not messages:
            return f"{first.workload}{first.stand_in}"
        size = message_size(max(message.message_bytes for message in messages))
        case = self.cells[0].case
        if case.workload != "collectives":
            return f"{first.workload} of {size}{first.stand_in}"
        # The default operation is named like all others.
        without = without_setting(case, f"workload.{case.workload}.operation")
        return f"{case_titles.workload_title(without)}: {messages[0].operation} of {size}"

    @property
    def has_curve(self) -> bool:
        """See :func:`has_curve`."""
        return has_curve(self.cells)

    @property
    def conditions(self) -> str:
        """``strong scaling · global batch 128 · 1 thread per rank · cpu``, or ``1 rank · global batch 128 · …``."""
        labels = self.cells[0].labels
        if self.has_curve:
            return labels.conditions
        counts = sorted({cell.case.ranks for cell in self.cells})
        smaller = f"{', '.join(map(str, counts[:-1]))} or " if len(counts) > 1 else ""
        return f"{smaller}{ranks(counts[-1])} · {labels.unscaled_conditions}"


def has_curve(cells: Iterable[Cell]) -> bool:
    """Whether any backend was measured at several rank counts: one rank count says nothing of scaling.

    Where nothing was measured, the planned rank counts decide.
    """
    cells = list(cells)
    cells = [cell for cell in cells if cell.throughput is not None] or cells
    counts: dict[str, set[int]] = {}
    for cell in cells:
        counts.setdefault(cell.case.curve, set()).add(cell.case.ranks)
    return any(len(of_curve) >= MIN_CURVE_POINTS for of_curve in counts.values())


def with_shown_titles(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells with titles for people, which say nothing of scaling where there is no curve."""
    if has_curve(cells):
        return tuple(cells)
    return tuple(
        cell.model_copy(update={"labels": cell.labels.model_copy(update={"title": cell.labels.unscaled_title})})
        for cell in cells
    )


def group_cells(cells: Sequence[Cell]) -> tuple[CellGroup, ...]:
    """The groups of cells, in the order of their first cells.

    Cells that differ along an axis (:mod:`reports.analysis.axes`) are one group, whose labels name the value of each,
    unless it had more than :data:`MAX_CURVES` curves: then each value is a group of its own.
    """
    groups: list[CellGroup] = []
    for numbers, is_merged in group_numbers([cell.case for cell in cells]):
        group = [cells[number] for number in numbers]
        own_axes = find_axes([cell.case for cell in group]) if is_merged else ()
        groups.append(CellGroup(tuple(with_axis_values(cell, own_axes) if own_axes else cell for cell in group)))
    return tuple(groups)


def cells_by_curve(cells: Sequence[Cell]) -> dict[str, tuple[Cell, ...]]:
    """By the cases' curve key, the cells that feed a scaling claim; the fewest ranks first."""
    curves: dict[str, list[Cell]] = {}
    for cell in with_single_rank_baseline(cells):
        if cell.feeds_a_curve:
            curves.setdefault(cell.case.curve, []).append(cell)
    return {key: tuple(sorted(curve_cells, key=lambda cell: cell.case.ranks)) for key, curve_cells in curves.items()}


def with_single_rank_baseline(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, and for each curve without a cell at one rank that of another curve of the same work.

    One rank is on one node, however many ranks that node has room for.
    """
    feeding = [cell for cell in cells if cell.feeds_a_curve]
    single_rank_cells = {curve_family(cell.case): cell for cell in feeding if cell.case.ranks == 1}
    with_baseline = {cell.case.curve for cell in feeding if cell.case.ranks == 1}
    without_baseline = {
        cell.case.curve: cell.case
        for cell in feeding
        if cell.case.ranks_per_node and cell.case.curve not in with_baseline
    }
    borrowed = [
        single_rank_cells[curve_family(case)].with_case(ranks_per_node=case.ranks_per_node)
        for case in without_baseline.values()
        if curve_family(case) in single_rank_cells
    ]
    return [*cells, *borrowed]


def curves_of(cells: Sequence[Cell]) -> dict[str, Curve]:
    """By the cases' curve key, of the cells that feed a scaling claim; others are named as left out."""
    curve_cells: dict[str, dict[int, Cell]] = {}
    left_out: dict[str, dict[str, list[int]]] = {}
    for cell in with_single_rank_baseline(cells):
        if cell.feeds_a_curve:
            curve_cells.setdefault(cell.case.curve, {})[cell.case.ranks] = cell
        elif cell.rates and (flag := claim_problem(cell.flags)) is not None:
            left_out.setdefault(cell.case.curve, {}).setdefault(flag, []).append(cell.case.ranks)
    return {
        key: _curve(key, by_ranks, left_out.get(key, {}))
        for key, by_ranks in curve_cells.items()
        if len(by_ranks) >= MIN_CURVE_POINTS
    }


def _curve(key: str, cells: Mapping[int, Cell], left_out: Mapping[str, Sequence[int]]) -> Curve:
    scaling = next(iter(cells.values())).case.scaling
    curve = fit_curve(key, {ranks: cell.rates for ranks, cell in cells.items()}, scaling=scaling)
    notes = {
        flag: f"left out: {', '.join(map(str, sorted(ranks)))} ranks {NO_SCALING_CLAIM[flag]}"
        for flag, ranks in left_out.items()
    }
    return curve.model_copy(update={"fit_flags": {**curve.fit_flags, **notes}}) if notes else curve


@dataclass(frozen=True)
class Findings:
    """The findings of one sweep, or of several side by side whose cells are labelled."""

    cells: tuple[Cell, ...]
    curves: Mapping[str, Curve]
    """By the cases' curve key."""
    curve_cells: Mapping[str, tuple[Cell, ...]]
    """The cells that each curve is made of, the fewest ranks first."""
    bottlenecks: tuple[Bottleneck, ...]
    exchanges: Mapping[str, CommunicationPath]
    """By :func:`reports.analysis.communication_paths.path_key`."""
    operations: tuple[OperationModel, ...]
    """The operations of sharded training, by communication path, operation and place."""
    curve_predictions: tuple[CurvePrediction, ...]
    """Of all curves, or the first :data:`MAX_PREDICTED`."""
    options: PredictOptions
    placements: PlacementEffects
    networks: tuple[CellOverLink, ...]
    """Cells of curves that were measured over several networks."""
    axes: tuple[AxisComparison, ...] = ()
    pricing: Pricing = NO_PRICING
    priced: tuple[PricedCell, ...] = ()
    decisions: Decisions | None = None
    """Of a sweep that went on until its questions were decided."""

    @property
    def unpredicted_reason(self) -> str | None:
        """Why curves have no prediction; ``None`` where all have one."""
        left = len(self.curves) - len(self.curve_predictions)
        if not left:
            return None
        return f"the first {MAX_PREDICTED:,} of {len(self.curves):,} curves are predicted: name rank counts (--predict)"

    def of_group(self, group: CellGroup) -> Findings:
        """What they say of one group alone, with titles that do not repeat its workload."""
        keys = {cell.case.curve for cell in group.cells}
        return replace(
            self,
            cells=tuple(map(within_workload, group.cells)),
            curves={key: curve for key, curve in self.curves.items() if key in keys},
            curve_cells={
                key: tuple(map(within_workload, cells)) for key, cells in self.curve_cells.items() if key in keys
            },
            bottlenecks=tuple(within_workload(found) for found in self.bottlenecks if found.curve in keys),
            curve_predictions=tuple(within_workload(found) for found in self.curve_predictions if found.curve in keys),
            placements=PlacementEffects(),
            networks=(),
            axes=(),
            priced=tuple(row for row in self.priced if row.case.key in {cell.case.key for cell in group.cells}),
        )


def analyse_cells(
    cells: Sequence[Cell], options: PredictOptions = DEFAULT_PREDICT_OPTIONS, pricing: Pricing = NO_PRICING
) -> Findings:
    """Analyse the cells of a sweep.

    Args:
        cells: its cells.
        options: which rank counts and which link to predict.
        pricing: what the user says about prices.
    """
    curves, curve_cells = curves_of(cells), cells_by_curve(cells)
    exchanges = communication_paths(cells)
    operations = operation_models(cells)
    predicted = list(curves)[: MAX_PREDICTED if options == DEFAULT_PREDICT_OPTIONS else None]
    predictions = predict_curves({key: curve_cells[key] for key in predicted}, exchanges, options, operations)
    return Findings(
        cells=tuple(cells),
        curves=curves,
        curve_cells=curve_cells,
        bottlenecks=bottlenecks(curve_cells, curves),
        exchanges=exchanges,
        operations=tuple(operations.values()),
        curve_predictions=predictions,
        options=options,
        placements=placement_effects(cells),
        networks=compare_networks(cells, predictions),
        axes=compare_axes(cells),
        pricing=pricing,
        priced=price_cells(cells, pricing),
    )
