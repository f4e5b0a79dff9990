"""Tables of a sweep for the terminal: its cells, and its findings on placement, networks, predictions and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.core.text import printable
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup, Findings, group_cells
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS
from reports.analysis.units import join_units
from reports.formats.console import literal
from reports.page import collectives_section, network_section, nodes_section, predictions, resources
from reports.page.checkpoints import checkpoint_table
from reports.page.decisions_section import decisions_table
from reports.page.elements import Table
from reports.page.programs import whole_runs_table

FULL_WIDTH = 96
Column = tuple[str, bool, Callable[[Cell], Any]]
"""A header, whether its column is aligned to the right, and the value of a cell in it."""
OUTCOME_STYLES = {"ok": "green", "skipped": "yellow", "failed": "red", "timeout": "red", "invalid": "red"}


def cell_tables(cells: Sequence[Cell], width: int = 100) -> list[Any]:
    """Rich tables, one for each group and one row for each cell; a narrow terminal has fewer columns."""
    return [_cell_table(group, wide=width >= FULL_WIDTH) for group in group_cells(cells)]


def _cell_table(group: CellGroup, *, wide: bool) -> Any:
    from rich import box
    from rich.table import Table

    cells = group.cells
    unit = join_units(cell.throughput.unit for cell in cells if cell.throughput)
    title = f"{group.title} · {group.conditions}"
    rich_table = Table(
        title=literal(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    columns: list[Column] = [
        ("backend", False, lambda cell: cell.labels.backend),
        ("ranks", True, lambda cell: cell.labels.rank_count),
        (f"{unit or 'throughput'} (95 %)", True, lambda cell: formatting.estimate(cell.throughput, unit=False)),
        *([("efficiency", True, _efficiency)] if group.has_curve else []),
        ("same work", False, same_work if wide else lambda cell: cell.same_work.verdict if cell.same_work else "–"),
        ("outcome", False, lambda cell: literal(cell.outcome, OUTCOME_STYLES[cell.outcome])),
    ]
    if wide:
        columns.insert(3, ("step", True, lambda cell: cell.labels.step))
    for name, right, _ in columns:
        rich_table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cell in cells:
        shown_row = (shown(cell) for _, _, shown in columns)
        rich_table.add_row(*(literal(value) if isinstance(value, str) else value for value in shown_row))
    return rich_table


def _efficiency(cell: Cell) -> str:
    return cell.labels.efficiency


def same_work(cell: Cell) -> str:
    """``same (4e-07)``, ``different``, ``–``"""
    proof = cell.same_work
    if proof is None:
        return "–"
    return proof.verdict if proof.deviation is None else f"{proof.verdict} ({formatting.small(proof.deviation)})"


MAX_COLUMNS = 8
"""A row with more columns is printed one column a line."""


def finding_tables(findings: Findings) -> list[Any]:
    """Rich renderables of the findings beside the cells; empty where there are none."""
    tables = (
        decisions_table(findings.decisions, findings.cells),
        nodes_section.split_table(findings.placements.splits),
        nodes_section.packing_table(findings.placements.packings),
        network_section.compact_network_table(findings.networks),
        collectives_section.summary_table(findings.cells),
        *(predictions.requested_tables(findings) if findings.options != DEFAULT_PREDICT_OPTIONS else ()),
        checkpoint_table(findings.cells),
        resources.cost_table(findings.cells),
        whole_runs_table(findings.cells),
    )
    return [renderable for table in tables for renderable in _rich_tables(table)]


def _rich_tables(table: Table) -> Iterator[Any]:
    """One table for each value of the first column, which is long and becomes the title."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for first, *others in ([str(value) for value in row] for row in table.rows):
        groups.setdefault(first, []).append(tuple(others))
    if len(groups) == len(table.rows) > 1 and len(table.header) <= MAX_COLUMNS:
        yield _rich_table(table.caption, table.header, [tuple(str(value) for value in row) for row in table.rows])
        return
    for first, rows in groups.items():
        title = f"{table.caption}: {first}"
        if len(table.header) > MAX_COLUMNS + 1:
            yield _rich_lines(title, table.header[1:], rows)
        else:
            yield _rich_table(title, table.header[1:], rows)


def _rich_table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table as RichTable

    rich_table = RichTable(
        title=literal(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in header:
        rich_table.add_column(literal(name), overflow="fold")
    for row in rows:
        rich_table.add_row(*map(literal, row))
    return rich_table


def _rich_lines(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich.text import Text

    paragraphs = [
        "\n".join(printable(f"  {name}: {value}") for name, value in zip(header, row, strict=True)) for row in rows
    ]
    return Text("\n\n".join([f"{printable(title)}\n{paragraphs[0]}", *paragraphs[1:], ""]))
