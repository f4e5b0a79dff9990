"""The answer of a group of cells: which backend, how far, and what a step loses there."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.losses import LEAST_SHARE, losses
from reports.analysis.stats import apart
from reports.cells import Cell
from reports.page import words


def answer(cells: Sequence[Cell]) -> str:
    """Which backend, how far: one sentence for the cells of one group, with intervals."""
    title = words.group_title(cells)
    level = largest(cells)
    if not level:
        return f"{title}: no cell gave a number."
    best = level[0]
    most = best.case.ranks
    said = f"{title}: at {words.ranks(most)} {_leaders(level)}"
    if best.efficiency is not None and most > 1 and "no_baseline" not in best.flags:
        reached = f"{words.percent(best.efficiency)} of {best.case.scaling} scaling"
        said += f"; {words.backend_title(best.case)} reaches {reached}"
    if causes := limits(best):
        said += f"; what a step loses there: {causes}"
    alone = next((cell for cell in _feeding(cells) if cell.case.transport == "none"), None)
    if alone is not None and most > 1 and _rate(alone) > _rate(best):
        said += f"; a single device alone is faster, with {words.measured(alone.throughput)}"
    return f"{said}."


def largest(cells: Sequence[Cell]) -> list[Cell]:
    """The cells at the largest rank count that feeds a claim, the fastest first; empty where there is none."""
    shown = _feeding(cells)
    most = max((cell.case.ranks for cell in shown), default=0)
    return sorted((cell for cell in shown if cell.case.ranks == most), key=_rate, reverse=True)


def _feeding(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.throughput is not None and "oversubscribed" not in cell.case.flags]


def limits(cell: Cell) -> str:
    """``communication that compute could not hide 54 %, …`` of a step: the largest first; empty where none is large."""
    if cell.decomposition is None or cell.case.ranks < 2:
        return ""
    found = sorted(losses(cell.decomposition).items(), key=lambda item: -item[1])
    return ", ".join(f"{cause} {share * 100:.0f} %" for cause, share in found if share >= LEAST_SHARE)


def _leaders(level: Sequence[Cell]) -> str:
    """The fastest of cells sorted by throughput, or those that can't be told apart from it."""
    best = level[0]
    first = _with_rate(best)
    if len(level) == 1:
        return f"{words.backend_title(best.case)} has {words.measured(best.throughput)}"
    assert best.throughput is not None
    told = [(cell, apart(best.throughput, cell.throughput)) for cell in level[1:] if cell.throughput is not None]
    second = _with_rate(level[1])
    if any(verdict is None for _, verdict in told):
        return f"{first} is ahead of {second}, but one trial gives no interval and so no verdict"
    alike = [_with_rate(cell) for cell, verdict in told if not verdict]
    if alike:
        return f"{first} can't be told from {' and '.join(alike)}"
    return f"{words.backend_title(best.case)} is fastest with {words.measured(best.throughput)}; {second} follows"


def _with_rate(cell: Cell) -> str:
    return f"{words.backend_title(cell.case)} with {words.measured(cell.throughput)}"


def _rate(cell: Cell) -> float:
    return cell.throughput.value if cell.throughput else 0.0
