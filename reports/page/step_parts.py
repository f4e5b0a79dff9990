"""Where the time of a step and the efficiency go: stacked bars of its parts, and of the losses by cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis import changes, formatting
from reports.analysis.bottleneck import (
    EXPOSED,
    SLOWER,
    TERM_TITLES,
    WAITING,
    efficiency_losses,
)
from reports.analysis.cells import Cell
from reports.analysis.findings import has_curve
from reports.page import summary
from reports.page.elements import Figure, Series, Table
from reports.page.palette import STEP_PART_COLOURS, meaning_style
from reports.page.series import point_series

STEP_PARTS = ("forward", "backward", "optimizer", "data", "unattributed", "waiting", "exposed")
PART_TITLES = {"waiting": TERM_TITLES[WAITING], "exposed": TERM_TITLES[EXPOSED]}
"""Of the parts whose names, which are keys of documents, are not the words of the field."""


def time_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """The parts of a step as stacked bars, one bar for each cell; ``None`` where no cell was decomposed."""
    shown = [cell for cell in cells if cell.decomposition is not None]
    if not shown:
        return None
    curve = has_curve(cells)
    names = tuple(f"{cell.labels.backend}, {cell.case.ranks}" if curve else cell.labels.backend for cell in shown)
    x_title = "backend, ranks" if curve else "backend"
    series = tuple(_part_series(part, shown) for part in STEP_PARTS)
    rows = tuple(
        (
            name,
            *(formatting.duration_estimate(cell.decomposition.parts_s.get(part)) for part in STEP_PARTS),
            formatting.duration_estimate(cell.decomposition.step_s),
        )
        for name, cell in zip(names, shown, strict=True)
        if cell.decomposition
    )
    table = Table("Parts of a step, means over ranks and trials", (x_title, *map(part_title, STEP_PARTS), "step"), rows)
    return Figure(
        f"{key}-time-parts",
        "Where the time goes",
        x_title,
        "step time",
        series,
        _parts_caption(shown),
        table,
        categories=names,
        stacked=True,
        seconds=True,
    )


def part_title(part: str) -> str:
    """``forward``, ``load imbalance``"""
    return PART_TITLES.get(part, part)


def _part_series(part: str, cells: Sequence[Cell]) -> Series:
    heights = tuple(_part_height_s(cell, part) for cell in cells)
    return point_series(part_title(part), range(len(cells)), heights, meaning_style(STEP_PART_COLOURS, part))


def _part_height_s(cell: Cell, part: str) -> float:
    """Noise can make a difference of times negative, which can't be drawn; the table has the number."""
    seconds = cell.decomposition.parts_s.get(part) if cell.decomposition else None
    return 0.0 if seconds is None else max(0.0, seconds.value)


def _parts_caption(cells: Sequence[Cell]) -> str:
    most = max(cell.case.ranks for cell in cells)
    losses_text = [
        f"{cell.labels.backend}: {causes}"
        for cell in cells
        if cell.case.ranks == most > 1 and cell.decomposition and (causes := summary.loss_summary(cell))
    ]
    if not losses_text:
        return "Compute of the ranks, load imbalance (waiting for the slowest), and exposed communication."
    return f"Losses of a step at {formatting.ranks(most)} — {'; '.join(losses_text)}."


LOSS_CAUSES = (EXPOSED, WAITING, SLOWER)
LOSS_PARTS = {EXPOSED: "exposed", WAITING: "waiting", SLOWER: "slower"}
"""The causes that are parts of a step have their colours."""


def loss_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """The lost efficiency by cause as stacked bars; ``None`` where no cell was decomposed beside its baseline,
    and where one rank count was measured: the parts of a step say it."""
    loss_by_cell = {
        id(cell): efficiency_losses(cell.decomposition) for cell in cells if cell.decomposition and cell.case.ranks > 1
    }
    shown = [cell for cell in cells if loss_by_cell.get(id(cell))]
    if not shown or not has_curve(cells):
        return None
    names = tuple(f"{cell.labels.backend}, {cell.case.ranks}" for cell in shown)
    series = tuple(
        # A gain (smaller pieces fit into a cache) can't be stacked on losses; the table has it.
        point_series(
            TERM_TITLES[cause],
            range(len(shown)),
            [max(0.0, loss_by_cell[id(cell)][cause]) for cell in shown],
            meaning_style(STEP_PART_COLOURS, LOSS_PARTS[cause]),
        )
        for cause in LOSS_CAUSES
    )
    rows = tuple((name, *_loss_texts(loss_by_cell[id(cell)])) for name, cell in zip(names, shown, strict=True))
    worst = max(shown, key=lambda cell: sum(loss_by_cell[id(cell)].values()))
    caption = (
        f"The largest loss: {worst.labels.backend_at_ranks}, "
        f"{formatting.share(sum(loss_by_cell[id(worst)].values()))} of its "
        "step. Each layer is a cause; a bar is 1 − efficiency."
    )
    table = Table(
        "Lost efficiency by cause, as shares of a step",
        ("backend, ranks", *(TERM_TITLES[cause] for cause in LOSS_CAUSES), "lost"),
        rows,
    )
    return Figure(
        f"{key}-losses",
        "Where the efficiency goes",
        "backend, ranks",
        "lost share of a step",
        series,
        caption,
        table,
        categories=names,
        stacked=True,
        percent=True,
    )


def _loss_texts(losses: Mapping[str, float]) -> tuple[str, ...]:
    """The loss of each cause, and their sum."""
    shares, total = changes.parts_of_total([losses[cause] for cause in LOSS_CAUSES], decimals=1)
    return *shares, total
