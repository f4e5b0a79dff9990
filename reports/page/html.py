"""Renders a page as one self-contained HTML file that makes no requests."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from bench.core.text import printable
from reports.page.elements import Figure, Hyperlink, Page, Section, Table
from reports.page.layout import HEIGHT, FigureLayout
from reports.page.plotly_charts import axis_titles, plotly_figure
from reports.page.plotly_library import PlotlyJs, plotly_library
from reports.page.svg import figure_svg, legend_entries

SIGNATURE = re.compile(
    rb"""\A<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n"""
    rb"""(<meta name="generator" content="scaling-harness">\n"""
    rb"""|(<meta name=.*>\n)*<meta http-equiv="Content-Security-Policy" """
    rb"""content="default-src 'none'; script-src ('|&#39;))"""
)
"""The beginning of every page. Earlier ones had no generator."""
MAX_NOTED_CHAPTERS = 12
"""Of more chapters the notes of tables are not repeated: they would be a third of the page."""
MAX_COVER_WARNINGS = 8
"""As many warnings are printed on the cover; more begin the next page."""
STYLE_SHEETS = ("page.css", "cover.css", "print.css")
MAX_FIGURE_ROWS = 100
"""Rows shown of the table of a figure; the tables of a section are shown in full."""
MAX_OPEN_ROWS = 40
"""A longer table of a section is folded."""
NUMBER_PATTERN = re.compile(r"[+\-−±<>≤≥~]?\s?\d[\d.,]*\s?([%×]|°C|[kMGT]?[A-Za-zµ/]{0,3}\b)?(\s?\(.*\))?(\s[\w/]+)?")
BLANK_CELLS = ("–", "—", "")
LONG_TEXT = 20
"""Characters of a cell from which on its column has a least width."""
CHART_PADDING_PX = 10
"""That a chart is higher than its figure."""
BAD_CELLS = ("failed", "timeout", "invalid", "regressed", "missing")
"""Table cells with this text are highlighted."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
"""Of a command line."""


def render(page: Page, library: PlotlyJs | None = None) -> str:
    """The page as HTML; ``library`` draws its figures, by default the installed plotly.js."""
    from markupsafe import Markup

    script = _template_source("page.js")
    library = library or plotly_library()
    figures = {figure.key: plotly_figure(figure) for section in page.sections for figure in section.figures}
    html: str = (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            chapters=_chapters(page),
            style=Markup("".join(map(_template_source, STYLE_SHEETS))),
            script=Markup(script),
            # The Content-Security-Policy allows two scripts: the page's own, and plotly.js once it is unpacked.
            hashes=[_hash(script), _hash(library.text)],
            library=_packed_plotly_js(library.text),
            figures=_gzip_base64(json.dumps(figures, allow_nan=False, separators=(",", ":"))),
            downloads=[(download, _gzip_base64(download.text)) for download in page.downloads],
            drawing=lambda figure: Markup(figure_svg(figure)),
            legend=_legend,
            axis_titles=axis_titles,
            height=_chart_height,
            figure_class=_figure_class,
            numbers=lambda table: sample_rows(table, bool(page.downloads)),
            column_classes=column_classes,
            bad=_is_bad,
            is_link=lambda cell: isinstance(cell, Hyperlink),
            many=MAX_OPEN_ROWS,
            is_repeated=_Repeated(),
            repeats_notes=len(page.chapters) <= MAX_NOTED_CHAPTERS,
            printed_warnings=MAX_COVER_WARNINGS,
        )
    )
    return printable(html, keep="\n\t")


def load_templates() -> None:
    """Load and compile what every page is made of, which the first :func:`render` would do."""
    _environment().get_template("report.html")
    _environment().get_template("cover.html")
    _packed_plotly_js(plotly_library().text)


def sample_rows(table: Table, has_downloads: bool) -> Table:
    """Evenly spaced rows of a long table, the first and the last among them, and a note that says so."""
    count = len(table.rows)
    if count <= MAX_FIGURE_ROWS:
        return table
    kept = tuple(table.rows[round(at * (count - 1) / (MAX_FIGURE_ROWS - 1))] for at in range(MAX_FIGURE_ROWS))
    whole = " The download has all of them." if has_downloads else ""
    note = f"{MAX_FIGURE_ROWS} of {count:,} rows, evenly spaced.{whole}"
    return Table(table.caption, table.header, kept, f"{note} {table.note}".strip())


def column_classes(table: Table) -> tuple[str, ...]:
    """The class of each column: ``n`` where all its cells are numbers, ``t`` where one is long text, else empty.

    Without a least width, long text is wrapped at every word in a table that is wider than the page.
    """
    columns = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.header)
    return tuple(
        _column_class([cell.text if isinstance(cell, Hyperlink) else cell for cell in column]) for column in columns
    )


def _column_class(cells: Sequence[str]) -> str:
    if _all_numbers(cells):
        return "n"
    return "t" if any(len(cell) >= LONG_TEXT for cell in cells) else ""


def _all_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in BLANK_CELLS]
    return bool(filled) and all(NUMBER_PATTERN.fullmatch(cell) for cell in filled)


def _is_bad(cell: object) -> bool:
    return isinstance(cell, str) and (cell in BAD_CELLS or cell.startswith("DIFFERENT"))


def _legend(figure: Figure) -> list[tuple[Any, str]]:
    from markupsafe import Markup

    return [(Markup(drawn), name) for drawn, name in legend_entries(figure)]


def _figure_class(figure: Figure) -> str:
    return "wide" if figure.wide else "rows" if FigureLayout(figure).rows else ""


def _chart_height(figure: Figure) -> int | None:
    """The height of a chart in pixels; ``None`` for the usual one."""
    height = FigureLayout(figure).height
    return None if height == HEIGHT else height + CHART_PADDING_PX


class _Repeated:
    """Whether a text was on the page before."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, text: str) -> bool:
        repeated = text in self._seen
        self._seen.add(text)
        return repeated


class _Chapter(NamedTuple):
    """A chapter with the ids of itself and its sections; without a title its sections stand alone."""

    title: str
    subtitle: str
    anchor: str
    sections: list[tuple[str, Section]]


def _chapters(page: Page) -> list[_Chapter]:
    titles: list[str] = []
    for chapter, sections in page.chapters:
        titles += [chapter.title] if chapter else []
        titles += [
            f"{chapter.title} {section.heading or section.title}" if chapter else section.title for section in sections
        ]
    anchors = iter(_anchors(titles))
    return [
        _Chapter(
            chapter.title if chapter else "",
            chapter.subtitle if chapter else "",
            next(anchors) if chapter else "",
            [(next(anchors), section) for section in sections],
        )
        for chapter, sections in page.chapters
    ]


def _anchors(titles: Sequence[str]) -> list[str]:
    """An id for each title, made of its words, so that links to a section stay valid for pages of later sweeps."""
    anchors: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for title in titles:
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "section"
        anchor = f"s-{plain}"
        while anchor in anchors:
            counts[plain] += 1
            anchor = f"s-{plain}-{counts[plain] + 1}"
        anchors[anchor] = None
    return list(anchors)


def _hash(script: str) -> str:
    """The hash by which a Content-Security-Policy names a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def _packed_plotly_js(text: str) -> str:
    """Cached: it is the same in every page that one process writes."""
    return _gzip_base64(text)


def _gzip_base64(text: str) -> str:
    """Gzipped and base64-encoded; the page unpacks it. The encoding can't contain an HTML end tag."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("reports.page", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole_options"] = _with_whole_options
    return environment


def _with_whole_options(text: str) -> Any:
    """The text, escaped, whose options are not broken at the end of a line: browsers break after a hyphen."""
    from markupsafe import Markup, escape

    return Markup(OPTION.sub(r'<span class="option">\g<0></span>', str(escape(text))))


@cache
def _template_source(name: str) -> str:
    """The text of a file beside the template."""
    environment = _environment()
    text: str = environment.loader.get_source(environment, name)[0]
    return text
