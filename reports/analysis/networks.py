"""The same ranks over links of different rates: what was measured beside what α and β foretell, and the wire's floor.

A node that takes part in an allreduce of S bytes among n nodes sends 2(n−1)/n·S at the least, whatever the algorithm
(Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002): no step that has to wait for it is shorter than that takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis.cells import Cell
from reports.analysis.placement import Placement, placement_of
from reports.analysis.predictions import CurvePrediction
from reports.analysis.stats import Estimate
from reports.analysis.step_prediction import ModelledStep

MIN_NETWORKS = 2


class CellOverLink(FrozenModel):
    """A cell over links of a measured rate."""

    key: str
    case: Case
    net: str
    link_bytes_s: float
    """What a link carried, as it was measured."""
    step_s: Estimate | None
    efficiency: Estimate | None
    modelled_step_s: float | None
    """From measured compute and the exchange that α and β foretell."""
    modelled_efficiency: float | None
    modelled_reason: str | None = None
    floor_s: float | None
    """The least that the links take for the gradients of a step."""


def compare_networks(cells: Sequence[Cell], curve_predictions: Sequence[CurvePrediction]) -> tuple[CellOverLink, ...]:
    """Of each curve that was measured over several networks; the slowest link first, the fewest ranks first."""
    prediction_by_curve = {curve_prediction.curve: curve_prediction for curve_prediction in curve_predictions}
    by_work: dict[str, list[Cell]] = {}
    for cell in cells:
        if _crossed_links(cell):
            by_work.setdefault(without_net(cell.case).curve, []).append(cell)
    groups = [
        work_cells for work_cells in by_work.values() if len({cell.case.net for cell in work_cells}) >= MIN_NETWORKS
    ]
    return tuple(
        _cell_over_link(cell, prediction_by_curve)
        for work_cells in groups
        for cell in sorted(work_cells, key=_sort_key)
    )


def _crossed_links(cell: Cell) -> bool:
    """In steps, not in allreduces alone."""
    counts = cell.throughput is not None and not cell.messages and cell.case.fault is None
    return counts and cell.link is not None and placement_of(cell.case).nodes > 1


def without_net(case: Case) -> Case:
    return case.model_copy(update={"net": None})


def floor_s(gradients_bytes: float, placement: Placement, link_bytes_s: float) -> float:
    """Seconds: 2(n−1)/n·S ÷ rate."""
    return 2 * (placement.nodes - 1) / placement.nodes * gradients_bytes / link_bytes_s


def _sort_key(cell: Cell) -> tuple[int, float]:
    return cell.case.ranks, cell.link.achieved_bytes_s if cell.link else 0.0


def _cell_over_link(cell: Cell, curve_predictions: Mapping[str, CurvePrediction]) -> CellOverLink:
    assert cell.link is not None
    curve_prediction = curve_predictions.get(cell.case.curve)
    explained = (
        next((step for step in curve_prediction.explained if step.ranks == cell.case.ranks), None)
        if curve_prediction
        else None
    )
    reason = None
    if explained is None:
        reason = (
            curve_prediction.reason if curve_prediction else None
        ) or "this cell is on no curve that could be explained"
    sent = sum(cell.gradients.tensor_bytes) * cell.gradients.grouping.share if cell.gradients else None
    rate = cell.link.achieved_bytes_s
    return CellOverLink(
        key=cell.case.key,
        case=cell.case,
        net=cell.link.net,
        link_bytes_s=rate,
        step_s=cell.step_s,
        efficiency=cell.efficiency,
        modelled_step_s=explained.modelled_s if explained else None,
        modelled_efficiency=_efficiency(cell, explained),
        modelled_reason=reason,
        floor_s=None if sent is None else floor_s(sent, placement_of(cell.case), rate),
    )


def _efficiency(cell: Cell, explained: ModelledStep | None) -> float | None:
    """The measured one, had the step taken as long as modelled."""
    if explained is None or cell.efficiency is None:
        return None
    return cell.efficiency.value * explained.measured_s / explained.modelled_s
