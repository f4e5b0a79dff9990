"""What is lost inside a node and what across nodes; and the same ranks packed onto few nodes or spread over many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

from bench.case import Case
from bench.records import Value
from reports.analysis.stats import Estimate, apart, ratio
from reports.cells import Cell
from reports.placement import family, spread_of

Dearer = Literal["inside", "across", "neither", "unknown"]
"""``neither``: the intervals touch; ``unknown``: there are none, or only one of the two is known."""


class Split(Value):
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
    def dearer(self) -> Dearer:
        """Where more is lost."""
        if self.inside is None or self.across is None or (told := apart(self.inside, self.across)) is None:
            return "unknown"
        if not told:
            return "neither"
        return "inside" if self.inside.value < self.across.value else "across"


class Packing(Value):
    """As many ranks on fewer nodes and on more. ``ratio``: throughput packed ÷ spread."""

    ranks: int
    packed: Case
    spread: Case
    packed_nodes: int
    spread_nodes: int
    ratio: Estimate


class Placements(Value):
    splits: tuple[Split, ...] = ()
    packings: tuple[Packing, ...] = ()


def placements_of(cells: Sequence[Cell]) -> Placements:
    """Of the cells that feed a claim, and of whose ranks it was said how many a node holds."""
    families: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.feeds_a_curve:
            families.setdefault(family(cell.case), []).append(cell)
    return Placements(
        splits=tuple(found for own in families.values() for found in _splits(own)),
        packings=tuple(found for own in families.values() for found in _packings(own)),
    )


def _splits(cells: Sequence[Cell]) -> Iterator[Split]:
    """One a cell that shares a node or has several, the fewest ranks first."""
    on_one = {cell.case.ranks: cell for cell in cells if spread_of(cell.case).nodes == 1}
    for cell in sorted(cells, key=lambda cell: (cell.case.ranks_per_node or 0, cell.case.ranks)):
        here = cell.case.ranks_on_a_node
        if cell.case.ranks_per_node is None or cell.case.ranks == 1:
            continue
        inside, inside_reason = _inside(here, on_one)
        across, across_reason = _across(cell, here, on_one)
        yield Split(curve=cell.case.curve, case=cell.case, ranks=cell.case.ranks, nodes=cell.case.nodes,
                    inside=inside, inside_reason=inside_reason, across=across,
                    across_reason=across_reason)  # fmt: skip


def _inside(here: int, on_one: dict[int, Cell]) -> tuple[Estimate | None, str | None]:
    if here == 1:
        return None, "one rank a node: it shares the node with no other"
    missing = [count for count in (1, here) if count not in on_one]
    if missing:
        return None, _missing(missing[0])
    return ratio(on_one[here].rates, on_one[1].rates, 1 / here, "1"), None


def _across(cell: Cell, here: int, on_one: dict[int, Cell]) -> tuple[Estimate | None, str | None]:
    if cell.case.nodes == 1:
        return None, "all are on one node"
    if here not in on_one:
        return None, _missing(here)
    return ratio(cell.rates, on_one[here].rates, 1 / cell.case.nodes, "1"), None


def _missing(count: int) -> str:
    return f"{count} rank{'s' * (count != 1)} on one node {'were' if count != 1 else 'was'} not measured"


def _packings(cells: Sequence[Cell]) -> Iterator[Packing]:
    """Each pair of the same rank count on different numbers of nodes, the fewest ranks first."""
    placed = [cell for cell in cells if cell.case.ranks_per_node and cell.case.ranks > 1]
    for one, other in combinations(sorted(placed, key=lambda cell: (cell.case.ranks, cell.case.nodes)), 2):
        if one.case.ranks == other.case.ranks and one.case.nodes < other.case.nodes:
            yield Packing(ranks=one.case.ranks, packed=one.case, spread=other.case, packed_nodes=one.case.nodes,
                          spread_nodes=other.case.nodes, ratio=ratio(one.rates, other.rates))  # fmt: skip
