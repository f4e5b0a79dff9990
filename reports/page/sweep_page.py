"""The page of one sweep, or of several side by side: its first screen, a chapter a workload, and the whole sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.core.case import Case
from reports.analysis.answers import workload_answers
from reports.analysis.case_groups import detailed_groups
from reports.analysis.cells import Cell
from reports.analysis.comparison import Comparison
from reports.analysis.findings import Findings, group_cells, has_curve, with_shown_titles
from reports.analysis.group_titles import named_cells, short_titles
from reports.analysis.work_axes import work_axes
from reports.page import (
    axes_section,
    collectives_section,
    comparison_section,
    decisions_section,
    nccl_section,
    network_section,
    nodes_section,
    predictions,
    summary,
    tables,
    work_section,
)
from reports.page.bars import without_curves
from reports.page.cover import make_cover
from reports.page.elements import Chapter, Download, Page, Section
from reports.page.large_sweeps import bounded, bounded_lines, fastest_sentence, further_section
from reports.page.palette import SeriesStyle, backend_styles
from reports.page.rank_axes import with_rank_axes
from reports.page.update_timings import update_timings_table
from reports.page.workload_chapter import table_section, workload_chapter

WHOLE = Chapter("Whole sweep", "Communication, failures, flags, settings and provenance of all workloads together.")


def make_page(
    title: str,
    findings: Findings,
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
    comparisons: Sequence[Comparison] = (),
    downloads: Sequence[Download] = (),
    remarks: Sequence[str] = (),
    note: str = "",
) -> Page:
    """The page of one sweep, or of several side by side whose cells are labelled.

    Args:
        title: of the page.
        findings: of the sweep or sweeps.
        not_applicable: the combinations that were not planned, with the reason.
        provenance: rows of a name and its value in each sweep.
        comparisons: of each further sweep with the first.
        downloads: files that the page contains.
        remarks: further warnings.
        note: what the user said about the sweep.
    """
    cells = with_shown_titles(findings.cells)
    findings, named = replace(findings, cells=cells), named_cells(cells)
    answers = workload_answers(findings)
    overall = fastest_sentence(answers)
    changes = tuple(comparison_section.comparison_sentence(comparison) for comparison in comparisons)
    above = (*changes, *([overall] if overall else ()))
    statements = list(summary.further_sentences(findings))
    outcomes, scaling = summary.outcome_lines(named), has_curve(cells)
    return Page(
        title=title,
        answers=(*above, *bounded_lines(statements)),
        warnings=bounded_lines([*summary.problem_lines(named), *summary.flag_lines(findings), *remarks]),
        sections=tuple(
            bounded(with_rank_axes(without_curves(section, scaling=scaling)))
            for section in _sections(findings, named, not_applicable, provenance, comparisons)
        ),
        downloads=tuple(downloads),
        cover=make_cover(answers, cells, above, statements, outcomes, provenance, note),
    )


def _sections(
    findings: Findings,
    named: Sequence[Cell],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
    comparisons: Sequence[Comparison],
) -> Iterator[Section]:
    """What follows the first screen. ``named``: the cells as :func:`named_cells` returns them."""
    cells, groups = findings.cells, group_cells(findings.cells)
    # The cells of groups first: the labels of their figures may name values of axes.
    shown = [*(cell for group in groups for cell in group.cells), *cells]
    styles = backend_styles(shown)
    styles_by_case = {cell.case.key: styles[cell.labels.backend] for cell in reversed(shown)}
    yield from decisions_section.sections(findings.decisions, cells)
    yield from comparison_section.sections(comparisons, styles_by_case)
    yield from (replace(section, folded=True) for section in axes_section.sections(findings.axes, styles_by_case))
    yield from work_section.sections(work_axes(cells), styles_by_case)
    with_chapters = detailed_groups(groups, lambda group: len(group.cells))
    titles = short_titles(groups)[: len(with_chapters)]
    for number, (title, group) in enumerate(zip(titles, with_chapters, strict=True)):
        yield from workload_chapter(number, title, group, styles, findings)
    if further := further_section(named[sum(len(group.cells) for group in with_chapters) :]):
        yield further
    yield from _whole_sweep(findings, named, styles, not_applicable, provenance)


def _whole_sweep(
    findings: Findings,
    named: Sequence[Cell],
    styles: Mapping[str, SeriesStyle],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
) -> Iterator[Section]:
    """The last chapter: what is of no workload alone, without empty sections."""
    cells = findings.cells
    sections = (
        *collectives_section.sections(cells),
        *nodes_section.sections(findings.placements, styles),
        *network_section.sections(findings.networks, styles),
        *nccl_section.sections(cells),
        *predictions.exchange_sections(findings),
        table_section("Failed and skipped", tables.failures_table(named)),
        table_section("Different implementations", tables.implementation_table(named)),
        table_section("Not applicable", tables.not_applicable_table(not_applicable)),
        table_section("Flags", tables.flags_table(cells)),
        table_section("What sampled readings are made of", update_timings_table(cells)),
        table_section("Settings", tables.settings_table(cells)),
        table_section("Environment variables", tables.variables_table(cells)),
        table_section("Provenance", tables.provenance_table(provenance)),
    )
    for section in sections:
        if any(table.rows for table in section.tables):
            yield replace(section, chapter=WHOLE, folded=True)
