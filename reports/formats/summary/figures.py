"""The efficiency table and the curves of a page as files for a README or a slide."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.core.names import file_stem
from bench.core.text import one_line
from reports.formats.summary.standalone_svg import CHARACTER_PX, document, text, text_width
from reports.page.cover_elements import HeatCell, HeatTable
from reports.page.elements import Figure, Page
from reports.page.layout import FigureLayout
from reports.page.svg import figure_svg, legend_entries

CURVE_KEYS = re.compile(r"g\d+-(throughput|speedup|efficiency)")
"""The keys of the figures that are drawn; those of collectives have others."""
TABLE_NAME = "efficiency-table"
MARGIN = 16
ROW_PX, LINE_PX, LEGEND_PX = 26, 18, 17
SWATCH_PX = 38
TITLE_PX = 15


def drawings(page: Page, *, dark: bool = True) -> dict[str, str]:
    """The drawings of a page as SVG, by the name of the file without its suffix.

    Args:
        page: Of one sweep, or of several side by side.
        dark: Whether they follow a dark scheme too.
    """
    drawn = {}
    if page.cover is not None and page.cover.heat.groups:
        drawn[TABLE_NAME] = table_svg(page.cover.heat, page.title, dark=dark)
    for workload, figure in _curves(page):
        name = f"{file_stem(workload)}-{figure.key.rpartition('-')[2]}"
        drawn[name] = curve_svg(figure, workload, dark=dark)
    return drawn


def _curves(page: Page) -> Iterator[tuple[str, Figure]]:
    """The curves over ranks, with the workload of each."""
    for section in page.sections:
        for figure in section.figures:
            if CURVE_KEYS.fullmatch(figure.key):
                yield section.chapter.title if section.chapter else section.title, figure


def table_svg(table: HeatTable, title: str, *, dark: bool = True) -> str:
    """The efficiency table: a row for each backend, a column for each number of ranks."""
    first = max([text_width(name) for group in table.groups for name, _ in group.rows] + [80.0]) + 12
    column = max([text_width(_cell_text(cell)) for cell in _cells(table)] + [40.0]) + 18
    width = max(MARGIN * 2 + first + column * len(table.columns), text_width(title, TITLE_PX) + 2 * MARGIN)
    elements = [text(MARGIN, MARGIN + 12, title, "ink title")]
    y = MARGIN + 12 + ROW_PX
    elements.append(text(MARGIN, y, table.caption, "soft"))
    y += LINE_PX
    for number, name in enumerate(table.columns):
        elements.append(text(MARGIN + first + column * (number + 1) - 9, y, name, "ink bold", "end"))
    for group in table.groups:
        if group.title:
            y += ROW_PX
            elements.append(text(MARGIN, y, group.title, "ink bold"))
        for backend, cells in group.rows:
            y += ROW_PX
            elements.append(text(MARGIN, y, backend))
            for number, cell in enumerate(cells):
                if cell is not None:
                    elements += _drawn_cell(cell, MARGIN + first + column * number, y, column)
    y += ROW_PX
    lines = _wrapped([f"{mark} {meaning}" for _, mark, meaning in table.legend], width - 2 * MARGIN)
    elements += [text(MARGIN, y + LEGEND_PX * number, line, "soft") for number, line in enumerate(lines)]
    return document(f"{title}: {table.caption}", width, y + LEGEND_PX * len(lines), "".join(elements), dark=dark)


def _cells(table: HeatTable) -> Iterator[HeatCell]:
    return (cell for group in table.groups for _, cells in group.rows for cell in cells if cell is not None)


def _cell_text(cell: HeatCell) -> str:
    return " ".join(filter(None, (cell.mark, cell.text)))


def _drawn_cell(cell: HeatCell, x: float, y: float, width: float) -> Iterator[str]:
    """A box in the colour of its level, with its mark and its number."""
    level = cell.level if cell.level in ("good", "fair", "poor") else "none"
    if cell.level != "plain":
        box = f'x="{x:.1f}" y="{y - 17:.1f}" width="{width:.1f}" height="{ROW_PX}"'
        yield f'<rect class="{level} box" rx="4" {box}/>'
    yield text(x + width - 9, y, _cell_text(cell), anchor="end")


def _wrapped(words: list[str], width: float) -> list[str]:
    """Entries of a legend in lines of at most so many pixels."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}   {word}" if lines else word
        if lines and text_width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def curve_svg(figure: Figure, workload: str, *, dark: bool = True) -> str:
    """One figure with its legend, the titles of its axes and its caption in one file."""
    layout = FigureLayout(figure)
    width = layout.width + 2 * MARGIN
    room = int((layout.width - text_width(f": {figure.title}", TITLE_PX)) / text_width("x", TITLE_PX))
    elements = [text(MARGIN, MARGIN + 12, f"{one_line(workload, room)}: {figure.title}", "ink title")]
    y: float = MARGIN + 16
    for line in _legend_lines(figure, layout.width):
        y += LEGEND_PX
        x: float = MARGIN
        for drawn, name in line:
            elements.append(drawn.replace("<svg ", f'<svg x="{x:.1f}" y="{y - 10:.1f}" width="30" height="12" ', 1))
            elements.append(text(x + SWATCH_PX, y, name))
            x += _entry_px(name)
    y += LINE_PX + 4
    elements.append(text(MARGIN, y, figure.y_title, "soft"))
    y += 6
    place = f'x="{MARGIN}" y="{y:.1f}" width="{layout.width}" height="{layout.height}" '
    elements.append(figure_svg(figure).replace("<svg ", f"<svg {place}", 1))
    y += layout.height + LINE_PX - 4
    elements.append(text(width - MARGIN, y, figure.x_title, "soft", "end"))
    title = f"{workload}: {figure.title}. {figure.caption}"
    return document(title, width, y + MARGIN - 4, "".join(elements), dark=dark)


def _entry_px(name: str) -> float:
    return SWATCH_PX + len(name) * CHARACTER_PX + 16


def _legend_lines(figure: Figure, width: float) -> list[list[tuple[str, str]]]:
    """The symbols and names of the legend, in lines of at most so many pixels."""
    lines: list[list[tuple[str, str]]] = []
    remaining = 0.0
    for entry in legend_entries(figure):
        taken = _entry_px(entry[1])
        if not lines or taken > remaining:
            lines.append([])
            remaining = width
        lines[-1].append(entry)
        remaining -= taken
    return lines
