"""What becomes of the lost efficiency, as stacked bars: one bar a cell, one layer a cause; they add up to the loss."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.losses import EXPOSED, SLOWER, WAITING, efficiency_losses
from reports.cells import Cell
from reports.page import words
from reports.page.values import Figure, Series, Table

LOSS_CAUSES = (EXPOSED, WAITING, SLOWER)


def loss_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """``None`` where no cell of several ranks was decomposed beside its smallest rank count."""
    loss_by_cell = {
        id(cell): efficiency_losses(cell.decomposition) for cell in cells if cell.decomposition and cell.case.ranks > 1
    }
    shown = [cell for cell in cells if loss_by_cell.get(id(cell))]
    if not shown:
        return None
    names = tuple(f"{words.backend_title(cell.case)}, {cell.case.ranks}" for cell in shown)
    places, unknown = tuple(map(float, range(len(shown)))), (None,) * len(shown)
    series = tuple(
        # A gain, from smaller pieces that fit into a cache, can't be stacked on losses; the table has it.
        Series(
            cause,
            places,
            tuple(max(0.0, loss_by_cell[id(cell)][cause]) for cell in shown),
            unknown,
            unknown,
            number,
            (False,) * len(shown),
        )
        for number, cause in enumerate(LOSS_CAUSES)
    )
    rows = tuple(
        (
            name,
            *(f"{100 * loss_by_cell[id(cell)][cause]:.1f} %" for cause in LOSS_CAUSES),
            f"{100 * sum(loss_by_cell[id(cell)].values()):.1f} %",
        )
        for name, cell in zip(names, shown, strict=True)
    )
    worst = max(shown, key=lambda cell: sum(loss_by_cell[id(cell)].values()))
    sentence = (
        f"Most is lost by {words.backend_at_ranks(worst.case)}: "
        f"{100 * sum(loss_by_cell[id(worst)].values()):.0f} % of its step. A layer is a cause; a bar is 1 − global efficiency."
    )
    table = Table("Lost efficiency by cause, as shares of a step", ("backend, ranks", *LOSS_CAUSES, "lost"), rows)
    return Figure(
        f"{key}-losses",
        "Where the efficiency goes",
        "backend, ranks",
        "lost share of a step",
        series,
        sentence,
        table,
        categories=names,
        stacked=True,
        percent=True,
        wide=True,
    )
