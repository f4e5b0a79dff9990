"""From findings to the page: which sections it has, in which order. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from bench.case import Case
from reports.cells import Cell
from reports.comparison import Comparison
from reports.findings import Findings
from reports.page import (
    comparison_section,
    cost_table,
    network_section,
    nodes_section,
    predictions,
    tables,
    text,
    why_table,
    words,
)
from reports.page.energy import energy_section
from reports.page.group_sections import group_sections
from reports.page.overview import folded, is_long, overview, summary
from reports.page.roofline import TITLE as ROOFLINE
from reports.page.roofline import roofline_figures, roofline_table
from reports.page.values import Download, Figure, Page, Section, Table


def make_page(
    title: str,
    findings: Findings,
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
    comparisons: Sequence[Comparison] = (),
    downloads: Sequence[Download] = (),
    remarks: Sequence[str] = (),
) -> Page:
    """The page of one sweep, or of several side by side whose cells are labelled.

    ``provenance``: what, and its value in each sweep; ``remarks``: what else a reader should know.
    """
    cells = findings.cells
    groups = text.grouped(cells)
    styles = {name: number for number, name in enumerate(dict.fromkeys(words.backend_title(c.case) for c in cells))}
    changed = tuple(comparison_section.sentence(one) for one in comparisons)
    drawn = (group_sections(f"g{number}", group, styles, findings) for number, group in enumerate(groups))
    sections = (
        *comparison_section.sections(comparisons),
        *chain.from_iterable(drawn),
        *nodes_section.sections(findings.placements, styles),
        *network_section.sections(findings.networks, styles),
        *predictions.sections(findings, styles),
        *_appendix(findings, groups, styles, not_applicable, provenance),
    )
    long = is_long(groups)
    return Page(
        title=title,
        answers=(*changed, summary(groups)) if long else (*changed, *text.answered(findings)),
        warnings=(*text.remarks(cells), *text.flagged(findings), *remarks),
        sections=(overview(groups), *map(folded, sections)) if long else sections,
        downloads=tuple(downloads),
    )


def _appendix(
    findings: Findings,
    groups: Sequence[Sequence[Cell]],
    styles: Mapping[str, int],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
) -> Iterator[Section]:
    """What stands by itself; what has nothing to say is left out."""
    cells = findings.cells
    sections = (
        _plain("All cells", tables.results(cells)),
        _plain("Same work", tables.same_work(cells)),
        _plain("Why it stops scaling", why_table.table(findings.reasons)),
        _plain("Laws of scaling", tables.scaling(cells, findings.curves)),
        _plain("Where the time goes", tables.decomposition(cells)),
        _plain(ROOFLINE, roofline_table(cells), roofline_figures(cells)),
        _plain("Use of ranks, hosts and GPUs", tables.usage(cells)),
        energy_section(groups, styles),
        _plain("Costs", cost_table.table(cells)),
        _plain("Conditions", tables.conditions(cells)),
        _plain("Further readings", tables.readings(cells)),
        _plain("Failed and skipped", tables.troubles(cells)),
        _plain("Other machinery", tables.machinery(cells)),
        _plain("Not applicable", tables.not_applicable(not_applicable)),
        _plain("Flags", tables.flags(cells)),
        _plain("Settings", tables.settings(cells)),
        _plain("Provenance", tables.provenance(provenance)),
    )
    return (section for section in sections if any(table.rows for table in section.tables))


def _plain(title: str, table: Table, figures: tuple[Figure, ...] = ()) -> Section:
    return Section(title, figures=figures, tables=(table,))
