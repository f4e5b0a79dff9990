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
from reports.page.group_sections import workload_sections
from reports.page.overview import fold_section, is_long, outcome_counts, overview
from reports.page.roofline import ROOFLINE_TITLE as ROOFLINE
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
    groups = text.group_cells(cells)
    styles = {name: number for number, name in enumerate(dict.fromkeys(words.backend_title(c.case) for c in cells))}
    changes = tuple(comparison_section.comparison_sentence(one) for one in comparisons)
    per_workload = (workload_sections(f"g{number}", group, styles, findings) for number, group in enumerate(groups))
    sections = (
        *comparison_section.sections(comparisons),
        *chain.from_iterable(per_workload),
        *nodes_section.sections(findings.placements, styles),
        *network_section.sections(findings.networks, styles),
        *predictions.sections(findings, styles),
        *_detail_sections(findings, groups, styles, not_applicable, provenance),
    )
    long = is_long(groups)
    return Page(
        title=title,
        answers=(*changes, outcome_counts(groups)) if long else (*changes, *text.answer_sentences(findings)),
        warnings=(*text.problem_lines(cells), *text.flag_lines(findings), *remarks),
        sections=(overview(groups), *map(fold_section, sections)) if long else sections,
        downloads=tuple(downloads),
    )


def _detail_sections(
    findings: Findings,
    groups: Sequence[Sequence[Cell]],
    styles: Mapping[str, int],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
) -> Iterator[Section]:
    """What stands by itself; what has nothing to say is left out."""
    cells = findings.cells
    sections = (
        _table_section("All cells", tables.results_table(cells)),
        _table_section("Same work", tables.same_work_table(cells)),
        _table_section("Why it stops scaling", why_table.bottleneck_table(findings.bottlenecks)),
        _table_section("Laws of scaling", tables.scaling_table(cells, findings.curves)),
        _table_section("Where the time goes", tables.decomposition_table(cells)),
        _table_section(ROOFLINE, roofline_table(cells), roofline_figures(cells)),
        _table_section("Use of ranks, hosts and GPUs", tables.usage_table(cells)),
        energy_section(groups, styles),
        _table_section("Costs", cost_table.cost_table(cells)),
        _table_section("Conditions", tables.conditions_table(cells)),
        _table_section("Further readings", tables.readings_table(cells)),
        _table_section("Failed and skipped", tables.failures_table(cells)),
        _table_section("Other machinery", tables.implementation_table(cells)),
        _table_section("Not applicable", tables.not_applicable_table(not_applicable)),
        _table_section("Flags", tables.flags_table(cells)),
        _table_section("Settings", tables.settings_table(cells)),
        _table_section("Provenance", tables.provenance_table(provenance)),
    )
    return (section for section in sections if any(table.rows for table in section.tables))


def _table_section(title: str, table: Table, figures: tuple[Figure, ...] = ()) -> Section:
    return Section(title, figures=figures, tables=(table,))
