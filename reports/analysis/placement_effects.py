"""The effects of where ranks are: efficiency inside a node and across nodes, packed and spread, and over slower links.

A node that takes part in an allreduce of S bytes among n nodes sends at least 2(n−1)/n·S, whatever the algorithm
(Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002): a step that waits for it is at least as long as that takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis import formatting
from reports.analysis.case_titles import CaseFinding, CaseLabels, net_title
from reports.analysis.cells import Cell, CellLabels
from reports.analysis.placement import Placement, curve_family, placement_of
from reports.analysis.predictions import CurvePrediction
from reports.analysis.stats import Estimate, intervals_disjoint, ratio
from reports.analysis.step_prediction import ModelledStep

LargerLoss = Literal["inside", "across", "neither", "unknown"]
"""``neither``: the intervals overlap; ``unknown``: an interval is missing."""


class NodeEfficiency(CaseFinding):
    """The efficiency of K ranks on each of n nodes, as a product: inside X(K) ÷ K·X(1), across X(nK) ÷ n·X(K).

    X is throughput.
    """

    curve: str
    ranks: int
    nodes: int
    inside: Estimate | None
    """``None`` with one rank a node, which shares it with no other; otherwise :attr:`inside_reason` says why."""
    inside_reason: str | None = None
    across: Estimate | None
    """``None`` on one node; otherwise :attr:`across_reason` says why."""
    across_reason: str | None = None

    @property
    def larger_loss(self) -> LargerLoss:
        """Where more efficiency is lost."""
        if (
            self.inside is None
            or self.across is None
            or (disjoint := intervals_disjoint(self.inside, self.across)) is None
        ):
            return "unknown"
        if not disjoint:
            return "neither"
        return "inside" if self.inside.value < self.across.value else "across"


class Packing(FrozenModel):
    """The same number of ranks on fewer nodes and on more. ``ratio``: throughput packed ÷ spread."""

    ranks: int
    packed: Case
    spread: Case
    labels: CaseLabels = Field(exclude=True, repr=False)
    """Of :attr:`packed`."""
    packed_nodes: int
    spread_nodes: int
    ratio: Estimate


class PlacementEffects(FrozenModel):
    """The placements of a sweep compared with each other."""

    splits: tuple[NodeEfficiency, ...] = ()
    packings: tuple[Packing, ...] = ()


def placement_effects(cells: Sequence[Cell]) -> PlacementEffects:
    """Compare the cells that feed a scaling claim and have a given number of ranks per node."""
    families: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.feeds_a_curve:
            families.setdefault(curve_family(cell.case), []).append(cell)
    return PlacementEffects(
        splits=tuple(effect for family_cells in families.values() for effect in _splits(family_cells)),
        packings=tuple(effect for family_cells in families.values() for effect in _packings(family_cells)),
    )


def _splits(cells: Sequence[Cell]) -> Iterator[NodeEfficiency]:
    """One for each cell whose ranks share a node or are on several, the fewest ranks first."""
    single_node = {cell.case.ranks: cell for cell in cells if placement_of(cell.case).nodes == 1}
    for cell in sorted(cells, key=lambda cell: (cell.case.ranks_per_node or 0, cell.case.ranks)):
        ranks_on_node = cell.case.ranks_on_a_node
        if cell.case.ranks_per_node is None or cell.case.ranks == 1:
            continue
        inside, inside_reason = _inside(ranks_on_node, single_node)
        across, across_reason = _across(cell, ranks_on_node, single_node)
        yield NodeEfficiency(
            curve=cell.case.curve,
            case=cell.case,
            ranks=cell.case.ranks,
            nodes=cell.case.nodes,
            inside=inside,
            inside_reason=inside_reason,
            across=across,
            across_reason=across_reason,
        )


def _inside(ranks_on_node: int, single_node: dict[int, Cell]) -> tuple[Estimate | None, str | None]:
    if ranks_on_node == 1:
        return None, "one rank a node: it shares the node with no other"
    missing = [count for count in (1, ranks_on_node) if count not in single_node]
    if missing:
        return None, _not_measured(missing[0])
    return ratio(single_node[ranks_on_node].rates, single_node[1].rates, 1 / ranks_on_node, "1"), None


def _across(cell: Cell, ranks_on_node: int, single_node: dict[int, Cell]) -> tuple[Estimate | None, str | None]:
    if cell.case.nodes == 1:
        return None, "all are on one node"
    if ranks_on_node not in single_node:
        return None, _not_measured(ranks_on_node)
    return ratio(cell.rates, single_node[ranks_on_node].rates, 1 / cell.case.nodes, "1"), None


def _not_measured(count: int) -> str:
    return f"{formatting.ranks(count)} on one node {'were' if count != 1 else 'was'} not measured"


def _packings(cells: Sequence[Cell]) -> Iterator[Packing]:
    """Each pair of the same rank count on different numbers of nodes, the fewest ranks first."""
    placed = [cell for cell in cells if cell.case.ranks_per_node and cell.case.ranks > 1]
    for packed_cell, spread_cell in combinations(
        sorted(placed, key=lambda cell: (cell.case.ranks, cell.case.nodes)), 2
    ):
        if packed_cell.case.ranks == spread_cell.case.ranks and packed_cell.case.nodes < spread_cell.case.nodes:
            yield Packing(
                ranks=packed_cell.case.ranks,
                packed=packed_cell.case,
                spread=spread_cell.case,
                labels=packed_cell.labels,
                packed_nodes=packed_cell.case.nodes,
                spread_nodes=spread_cell.case.nodes,
                ratio=ratio(packed_cell.rates, spread_cell.rates),
            )


MIN_NETWORKS = 2


class CellOverLink(CaseFinding):
    """A cell over links of a measured rate. Its labels do not name the links; :attr:`net_title` does."""

    labels: CellLabels = Field(exclude=True, repr=False)
    key: str
    net: str
    net_title: str = Field(exclude=True, repr=False)
    link_bytes_s: float
    """The measured bandwidth of a link."""
    step_s: Estimate | None
    efficiency: Estimate | None
    modelled_step_s: float | None
    """From measured compute, and the exchange predicted by α and β."""
    modelled_efficiency: float | None
    modelled_reason: str | None = None
    floor_s: float | None
    """The least time that the links take for the gradients of a step."""


def compare_networks(cells: Sequence[Cell], curve_predictions: Sequence[CurvePrediction]) -> tuple[CellOverLink, ...]:
    """The cells of each curve that was measured over several networks: by ranks, then by the rate of the link."""
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
    """Whether the steps of a training cell crossed links; cells of allreduces alone do not count."""
    counts = cell.throughput is not None and not cell.messages and cell.case.fault is None
    return counts and cell.link is not None and placement_of(cell.case).nodes > 1


def without_net(case: Case) -> Case:
    """The same case without its network: what is compared over several networks."""
    return case.model_copy(update={"net": None})


def floor_s(gradients_bytes: float, placement: Placement, link_bytes_s: float) -> float:
    """The lower bound of a step by its links, in seconds: 2(n−1)/n·S ÷ rate."""
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
        ) or "no step model explains the curve of this cell"
    sent = sum(cell.gradients.tensor_bytes) * cell.gradients.grouping.share if cell.gradients else None
    rate = cell.link.achieved_bytes_s
    return CellOverLink(
        key=cell.case.key,
        case=cell.case,
        labels=cell.with_case(net=None).labels,
        net=cell.link.net,
        net_title=net_title(cell.link.net),
        link_bytes_s=rate,
        step_s=cell.step_s,
        efficiency=cell.efficiency,
        modelled_step_s=explained.modelled_s if explained else None,
        modelled_efficiency=_efficiency(cell, explained),
        modelled_reason=reason,
        floor_s=None if sent is None else floor_s(sent, placement_of(cell.case), rate),
    )


def _efficiency(cell: Cell, explained: ModelledStep | None) -> float | None:
    """The efficiency, if the step took as long as modelled."""
    if explained is None or cell.efficiency is None:
        return None
    return cell.efficiency.value * explained.measured_s / explained.modelled_s
