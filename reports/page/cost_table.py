"""What trials cost, and what a million samples cost by that; unknown costs with their reason."""

from __future__ import annotations

from collections.abc import Sequence

from reports.cells import Cell
from reports.page import words
from reports.page.values import Table

NO_PRICE = "the site named no cost: give it a price"
MILLION = 1e6


def cost_table(cells: Sequence[Cell]) -> Table:
    """A row a cell that ran at a site that bills; none where nothing was billed."""
    rows = tuple(_cost_row(cell) for cell in cells if cell.cost is not None or cell.cost_reason)
    header = ("cell", "cost of a trial (95 %)", "trials", "per million, at least", "per million, at most")
    note = (
        "In the unit of the price that was given. Per million samples (bytes, elements): at most the whole trial's "
        "cost over the samples of its measured window, start and warm-up paid for; at least the cost of the time that "
        "the window takes, as if the trial had been billed from when it was asked for. The longer a run, the nearer "
        "to the lower one."
    )
    return Table("What it cost", header, rows, note)


def _cost_row(cell: Cell) -> tuple[str, ...]:
    title = words.case_title(cell.case)
    if cell.cost is None:
        return title, f"unknown: {cell.cost_reason or NO_PRICE}", "–", "–", "–"
    bounds = ("–", "–") if cell.cost_per_unit is None else _per_million(cell.cost_per_unit)
    return title, words.estimate(cell.cost, unit=False), str(cell.cost.n), *bounds


def _per_million(found: tuple[float, float]) -> tuple[str, str]:
    least, most = (words.number(MILLION * one) for one in found)
    return least, most
