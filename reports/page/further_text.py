"""Tables of the page for the terminal: placement, networks, what was asked about, costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.findings import Findings
from reports.forecasts import DEFAULT_PREDICT_OPTIONS
from reports.page import cost_table, network_section, nodes_section, predictions
from reports.page.values import Table

MAX_COLUMNS = 8
"""More don't fit beside each other: such a row is told line by line."""


def finding_tables(findings: Findings) -> list[Any]:
    """What stands beside the cells, for rich to print; nothing where there is nothing to say."""
    found = (
        nodes_section.split_table(findings.placements.splits),
        nodes_section.packing_table(findings.placements.packings),
        network_section.compact_network_table(findings.networks),
        *(predictions.requested_tables(findings) if findings.options != DEFAULT_PREDICT_OPTIONS else ()),
        cost_table.cost_table(findings.cells),
    )
    return [renderable for table in found for renderable in _rich_tables(table)]


def _rich_tables(found: Table) -> Iterator[Any]:
    """What the rows of the first column have in common is their title: it is long."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for first, *others in ([str(value) for value in row] for row in found.rows):
        groups.setdefault(first, []).append(tuple(others))
    if len(groups) == len(found.rows) > 1 and len(found.header) <= MAX_COLUMNS:
        yield _rich_table(found.caption, found.header, [tuple(str(value) for value in row) for row in found.rows])
        return
    for first, rows in groups.items():
        title = f"{found.caption}: {first}"
        if len(found.header) > MAX_COLUMNS + 1:
            yield _rich_lines(title, found.header[1:], rows)
        else:
            yield _rich_table(title, found.header[1:], rows)


def _rich_table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    rich_table = Drawn(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        rich_table.add_column(Text(name), overflow="fold")
    for row in rows:
        rich_table.add_row(*map(Text, row))
    return rich_table


def _rich_lines(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich.text import Text

    paragraphs = ["\n".join(f"  {name}: {value}" for name, value in zip(header, row, strict=True)) for row in rows]
    return Text("\n\n".join([f"{title}\n{paragraphs[0]}", *paragraphs[1:], ""]))
