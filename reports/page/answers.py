"""The answer of a group of cells: which backend, how far, and what a step loses there."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.losses import MIN_SHARE, efficiency_losses
from reports.analysis.stats import intervals_disjoint
from reports.cells import Cell
from reports.page import words


def group_answer(cells: Sequence[Cell]) -> str:
    """Which backend, how far: one sentence for the cells of one group, with intervals."""
    title = words.group_title(cells)
    candidates = cells_at_most_ranks(cells)
    if not candidates:
        return f"{title}: no cell gave a number."
    best = candidates[0]
    most = best.case.ranks
    text = f"{title}: at {words.ranks(most)} {_fastest_text(candidates)}"
    if best.efficiency is not None and most > 1 and "no_baseline" not in best.flags:
        reached = f"{words.percent(best.efficiency)} of {best.case.scaling} scaling"
        text += f"; {words.backend_title(best.case)} reaches {reached}"
    if causes := loss_summary(best):
        text += f"; what a step loses there: {causes}"
    alone = next((cell for cell in _cells_for_claims(cells) if cell.case.transport == "none"), None)
    if alone is not None and most > 1 and _throughput_value(alone) > _throughput_value(best):
        text += f"; a single device alone is faster, with {words.estimate(alone.throughput)}"
    return f"{text}."


def cells_at_most_ranks(cells: Sequence[Cell]) -> list[Cell]:
    """The cells at the largest rank count that feeds a claim, the fastest first; empty where there is none."""
    shown = _cells_for_claims(cells)
    most = max((cell.case.ranks for cell in shown), default=0)
    return sorted((cell for cell in shown if cell.case.ranks == most), key=_throughput_value, reverse=True)


def _cells_for_claims(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.throughput is not None and "oversubscribed" not in cell.case.flags]


def loss_summary(cell: Cell) -> str:
    """``communication that compute could not hide 54 %, …`` of a step: the largest first; empty where none is large."""
    if cell.decomposition is None or cell.case.ranks < 2:
        return ""
    found = sorted(efficiency_losses(cell.decomposition).items(), key=lambda item: -item[1])
    return ", ".join(f"{cause} {share * 100:.0f} %" for cause, share in found if share >= MIN_SHARE)


def _fastest_text(candidates: Sequence[Cell]) -> str:
    """The fastest of cells sorted by throughput, or those that can't be told apart from it."""
    best = candidates[0]
    first = _backend_with_throughput(best)
    if len(candidates) == 1:
        return f"{words.backend_title(best.case)} has {words.estimate(best.throughput)}"
    assert best.throughput is not None
    comparisons = [
        (cell, intervals_disjoint(best.throughput, cell.throughput))
        for cell in candidates[1:]
        if cell.throughput is not None
    ]
    second = _backend_with_throughput(candidates[1])
    if any(verdict is None for _, verdict in comparisons):
        return f"{first} is ahead of {second}, but one trial gives no interval and so no verdict"
    indistinguishable = [_backend_with_throughput(cell) for cell, verdict in comparisons if not verdict]
    if indistinguishable:
        return f"{first} can't be told from {' and '.join(indistinguishable)}"
    return f"{words.backend_title(best.case)} is fastest with {words.estimate(best.throughput)}; {second} follows"


def _backend_with_throughput(cell: Cell) -> str:
    return f"{words.backend_title(cell.case)} with {words.estimate(cell.throughput)}"


def _throughput_value(cell: Cell) -> float:
    return cell.throughput.value if cell.throughput else 0.0
