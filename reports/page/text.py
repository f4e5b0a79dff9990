"""The cells of a sweep as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.cells import Cell
from reports.page import words

STYLES = {"ok": "green", "skipped": "yellow", "failed": "red", "timeout": "red", "invalid": "red"}


def table(cells: Sequence[Cell]) -> Any:
    """A Rich table: one row a cell."""
    from rich.table import Table
    from rich.text import Text

    made = Table(header_style="bold", expand=False)
    for title, right in (
        ("workload", False), ("backend", False), ("ranks", True), ("scaling", False), ("throughput (95 %)", True),
        ("step", True), ("speed-up", True), ("efficiency", True), ("same work", False), ("outcome", False),
    ):  # fmt: skip
        made.add_column(title, justify="right" if right else "left", overflow="fold")
    before = None
    for cell in cells:
        group = words.group_key(cell)
        if before not in (None, group):
            made.add_section()
        before = group
        case = cell.case
        made.add_row(
            words.workload_title(case), words.backend_title(case), str(case.ranks), case.scaling,
            words.measured(cell.throughput), words.milliseconds(cell.step_s), words.measured(cell.speedup),
            words.percent(cell.efficiency), same_work(cell), Text(cell.outcome, style=STYLES[cell.outcome]),
        )  # fmt: skip
    return made


def same_work(cell: Cell) -> str:
    """``same (4e-07)``, ``different``, ``–``"""
    proof = cell.same_work
    if proof is None:
        return "–"
    return proof.verdict if proof.deviation is None else f"{proof.verdict} ({proof.deviation:.0e})"


def remarks(cells: Sequence[Cell]) -> list[str]:
    """One line for each cell that isn't ok, each reason once."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.outcome != "ok":
            found.setdefault(f"{cell.outcome}: {cell.reason}", []).append(cell)
    lines = []
    for said, group in found.items():
        first = words.case_title(group[0].case)
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append(f"{first}{more} {said}")
    return lines
