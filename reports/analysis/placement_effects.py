"""What is lost inside a node and what across nodes; and the same ranks packed onto few nodes or spread over many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis.cells import Cell
from reports.analysis.placement import curve_family, placement_of
from reports.analysis.stats import Estimate, intervals_disjoint, ratio

LargerLoss = Literal["inside", "across", "neither", "unknown"]
"""``neither``: the intervals touch; ``unknown``: there are none, or only one of the two is known."""


class NodeEfficiency(FrozenModel):
    """The efficiency of K ranks on each of n nodes, as a product: inside X(K) ÷ K·X(1), across X(nK) ÷ n·X(K)."""

    curve: str
    case: Case
    ranks: int
    nodes: int
    inside: Estimate | None
    """None of one rank a node, which shares it with nobody; else see :attr:`inside_reason`."""
    inside_reason: str | None = None
    across: Estimate | None
    """None on one node; else see :attr:`across_reason`."""
    across_reason: str | None = None

    @property
    def larger_loss(self) -> LargerLoss:
        """Where more is lost."""
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
    """As many ranks on fewer nodes and on more. ``ratio``: throughput packed ÷ spread."""

    ranks: int
    packed: Case
    spread: Case
    packed_nodes: int
    spread_nodes: int
    ratio: Estimate


class PlacementEffects(FrozenModel):
    splits: tuple[NodeEfficiency, ...] = ()
    packings: tuple[Packing, ...] = ()


def placement_effects(cells: Sequence[Cell]) -> PlacementEffects:
    """Of the cells that feed a claim, and of whose ranks it was said how many a node holds."""
    families: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.feeds_a_curve:
            families.setdefault(curve_family(cell.case), []).append(cell)
    return PlacementEffects(
        splits=tuple(found for family_cells in families.values() for found in _splits(family_cells)),
        packings=tuple(found for family_cells in families.values() for found in _packings(family_cells)),
    )


def _splits(cells: Sequence[Cell]) -> Iterator[NodeEfficiency]:
    """One a cell that shares a node or has several, the fewest ranks first."""
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
    return f"{count} rank{'s' * (count != 1)} on one node {'were' if count != 1 else 'was'} not measured"


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
                packed_nodes=packed_cell.case.nodes,
                spread_nodes=spread_cell.case.nodes,
                ratio=ratio(packed_cell.rates, spread_cell.rates),
            )
