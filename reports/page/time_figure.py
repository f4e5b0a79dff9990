"""Where the time of a step goes, as stacked bars: one bar a cell, one layer a part; the layers add up to the step."""

from __future__ import annotations

from collections.abc import Sequence

from reports.cells import Cell
from reports.page import answers, words
from reports.page.values import Figure, Series, Table

STEP_PARTS = ("forward", "backward", "optimizer", "data", "waiting", "exposed")


def time_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """``None`` where no cell was decomposed."""
    shown = [cell for cell in cells if cell.decomposition is not None]
    if not shown:
        return None
    names = tuple(f"{words.backend_title(cell.case)}, {cell.case.ranks}" for cell in shown)
    series = tuple(_part_series(part, number, shown) for number, part in enumerate(STEP_PARTS))
    rows = tuple(
        (
            name,
            *(words.duration_estimate(cell.decomposition.parts_s[part]) for part in STEP_PARTS),
            words.duration_estimate(cell.decomposition.step_s),
        )
        for name, cell in zip(names, shown, strict=True)
        if cell.decomposition
    )
    table = Table("Parts of a step, means over ranks and trials", ("backend, ranks", *STEP_PARTS, "step"), rows)
    return Figure(
        f"{key}-time-parts",
        "Where the time goes",
        "backend, ranks",
        "step (ms)",
        series,
        _parts_sentence(shown),
        table,
        categories=names,
        stacked=True,
        wide=True,
    )


def _part_series(part: str, number: int, cells: Sequence[Cell]) -> Series:
    # An exchange that noise has made shorter than nothing can't be drawn; the table has its number.
    heights = tuple(
        max(0.0, 1e3 * cell.decomposition.parts_s[part].value) if cell.decomposition else 0.0 for cell in cells
    )
    unknown = (None,) * len(cells)
    return Series(part, tuple(map(float, range(len(cells)))), heights, unknown, unknown, number, (False,) * len(cells))


def _parts_sentence(cells: Sequence[Cell]) -> str:
    most = max(cell.case.ranks for cell in cells)
    losses_text = [
        f"{words.backend_title(cell.case)}: {causes}"
        for cell in cells
        if cell.case.ranks == most > 1 and cell.decomposition and (causes := answers.loss_summary(cell))
    ]
    if not losses_text:
        return "Own work of the ranks, waiting for the slowest one, and communication that compute could not hide."
    return f"What a step loses at {words.ranks(most)} — {'; '.join(losses_text)}."
