"""Tables of the page for the terminal: placement, networks, what was asked about, costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.findings import Findings
from reports.forecasts import NOTHING_ASKED
from reports.page import cost_table, network_section, nodes_section, predictions
from reports.page.values import Table

MOST_COLUMNS = 8
"""More don't fit beside each other: such a row is told line by line."""


def further(findings: Findings) -> list[Any]:
    """What stands beside the cells, for rich to print; nothing where there is nothing to say."""
    found = (
        nodes_section.splits(findings.placements.splits),
        nodes_section.packings(findings.placements.packings),
        network_section.brief(findings.networks),
        *(predictions.asked_about(findings) if findings.asked != NOTHING_ASKED else ()),
        cost_table.table(findings.cells),
    )
    return [drawn for table in found for drawn in _drawn(table)]


def _drawn(found: Table) -> Iterator[Any]:
    """What the rows of the first column have in common is their title: it is long."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for first, *others in ([str(value) for value in row] for row in found.rows):
        groups.setdefault(first, []).append(tuple(others))
    if len(groups) == len(found.rows) > 1 and len(found.header) <= MOST_COLUMNS:
        yield _table(found.caption, found.header, [tuple(str(value) for value in row) for row in found.rows])
        return
    for first, rows in groups.items():
        title = f"{found.caption}: {first}"
        if len(found.header) > MOST_COLUMNS + 1:
            yield _lines(title, found.header[1:], rows)
        else:
            yield _table(title, found.header[1:], rows)


def _table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    made = Drawn(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        made.add_column(Text(name), overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _lines(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich.text import Text

    told = ["\n".join(f"  {name}: {value}" for name, value in zip(header, row, strict=True)) for row in rows]
    return Text("\n\n".join([f"{title}\n{told[0]}", *told[1:], ""]))
