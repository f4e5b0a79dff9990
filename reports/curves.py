"""The curves of a sweep: cells that differ in their rank count only, and what their throughputs say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis.curve import Curve, analyse
from reports.cells import Cell
from reports.placement import family

FEWEST_RANK_COUNTS = 2
"""Fewer are no curve."""


def fed_by_curve(cells: Sequence[Cell]) -> dict[str, tuple[Cell, ...]]:
    """By the cases' curve key, the cells that feed a claim; the fewest ranks first."""
    found: dict[str, list[Cell]] = {}
    for cell in with_one_rank(cells):
        if cell.feeds_a_curve:
            found.setdefault(cell.case.curve, []).append(cell)
    return {key: tuple(sorted(fed, key=lambda cell: cell.case.ranks)) for key, fed in found.items()}


def with_one_rank(cells: Sequence[Cell]) -> list[Cell]:
    """And of each curve that lacks it the measurement at one rank, from a curve of the same work with fewer or more
    ranks on a node: one rank is on one node, whatever others that node had room for."""
    feeding = [cell for cell in cells if cell.feeds_a_curve]
    alone = {family(cell.case): cell for cell in feeding if cell.case.ranks == 1}
    whole = {cell.case.curve for cell in feeding if cell.case.ranks == 1}
    lacking = {one.case.curve: one.case for one in feeding if one.case.ranks_per_node and one.case.curve not in whole}
    borrowed = [
        _on_a_node_for(alone[family(case)], case.ranks_per_node) for case in lacking.values() if family(case) in alone
    ]
    return [*cells, *borrowed]


def _on_a_node_for(cell: Cell, ranks_per_node: int | None) -> Cell:
    return cell.model_copy(update={"case": cell.case.model_copy(update={"ranks_per_node": ranks_per_node})})


def curves_of(cells: Sequence[Cell]) -> dict[str, Curve]:
    """By the cases' curve key. Cells that feed no claim (oversubscribed, injected, collectives) are left out."""
    fed: dict[str, dict[int, Cell]] = {}
    left_out: dict[str, list[int]] = {}
    for cell in with_one_rank(cells):
        if cell.feeds_a_curve:
            fed.setdefault(cell.case.curve, {})[cell.case.ranks] = cell
        elif cell.rates and "oversubscribed" in cell.flags:
            left_out.setdefault(cell.case.curve, []).append(cell.case.ranks)
    return {
        key: _curve(key, found, left_out.get(key, [])) for key, found in fed.items() if len(found) >= FEWEST_RANK_COUNTS
    }


def _curve(key: str, cells: Mapping[int, Cell], left_out: Sequence[int]) -> Curve:
    scaling = next(iter(cells.values())).case.scaling
    curve = analyse(key, {ranks: cell.rates for ranks, cell in cells.items()}, scaling=scaling)
    if not left_out:
        return curve
    said = f"left out: {', '.join(map(str, sorted(left_out)))} ranks have more threads than there are cores"
    return curve.model_copy(update={"traps": {**curve.traps, "oversubscribed": said}})
