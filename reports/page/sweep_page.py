"""The page of one sweep, or of several side by side: which sections it has, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter

from bench.core.case import Case
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.comparison import Comparison
from reports.analysis.curve import Curve
from reports.analysis.findings import CellGroup, Findings, group_cells, has_curve, with_shown_titles
from reports.analysis.stats import Estimate
from reports.analysis.units import join_units
from reports.page import (
    axes_section,
    collectives_section,
    comparison_section,
    nccl_section,
    network_section,
    nodes_section,
    predictions,
    programs,
    resources,
    summary,
    tables,
)
from reports.page.bars import without_curves
from reports.page.bottleneck_table import bottleneck_table
from reports.page.checkpoints import CHECKPOINTS_TITLE, checkpoint_table
from reports.page.elements import Download, Figure, Ideal, Page, Section, Series, Table
from reports.page.gpu_section import gpu_section
from reports.page.host_device import host_device_figure
from reports.page.layout import FigureLayout
from reports.page.message_figures import message_figures
from reports.page.palette import SeriesStyle, backend_styles
from reports.page.rank_axes import with_rank_axes
from reports.page.resources import energy_section
from reports.page.roofline import ROOFLINE_TITLE as ROOFLINE
from reports.page.roofline import peaks_table, roofline_figures, roofline_table
from reports.page.series import point_series, series_by_ranks
from reports.page.step_parts import loss_figure, time_figure
from reports.page.step_times_figure import step_time_figure
from reports.page.summary import fold_section, is_long, outcome_counts, overview
from reports.page.timelines import host_section
from reports.page.update_timings import update_timings_table
from reports.page.usage import usage_tables


def workload_sections(
    key: str, group: CellGroup, styles: Mapping[str, SeriesStyle], findings: Findings
) -> Iterator[Section]:
    """The sections of one group; none where no cell has a number.

    Args:
        key: begins the keys of its figures.
        group: its cells.
        styles: the style of each backend, by its title.
        findings: of the sweep, for fitted lines.
    """
    shown = [cell for cell in group.cells if cell.throughput is not None]
    if not shown:
        return
    if any(cell.messages for cell in shown):
        figures = message_figures(key, shown, styles, findings.exchanges)
    else:
        figures = _rank_figures(key, shown, styles, findings.curves)
    steps = step_time_figure(key, shown)
    # Curves side by side, figures whose categories are rows below them, then those of the whole width.
    figures = tuple(
        sorted((*figures, *((steps,) if steps else ())), key=lambda figure: (figure.wide, FigureLayout(figure).rows))
    )
    yield Section(group.title, group.conditions, figures)
    for section_of in (gpu_section, host_section):
        if (over_time := section_of(key, CellGroup(tuple(shown)), styles)) is not None:
            yield over_time


def _rank_figures(
    key: str, cells: Sequence[Cell], styles: Mapping[str, SeriesStyle], curves: Mapping[str, Curve]
) -> tuple[Figure, ...]:
    unit = join_units(cell.throughput.unit for cell in cells if cell.throughput)
    specs: tuple[tuple[str, str, str, str, Callable[[Estimate], str], Ideal | None], ...] = (
        ("throughput", "Throughput", f"throughput ({unit})", _throughput_caption(cells), formatting.estimate, None),
        ("speedup", "Speed-up", "speed-up", _scaling_caption(cells), formatting.estimate, "linear"),
        ("efficiency", "Efficiency", "efficiency", _efficiency_caption(cells), formatting.percent, "one"),
    )
    figures = []
    for attribute, title, y_title, caption, shown, ideal in specs:
        series, rows = series_by_ranks(
            cells, styles, attrgetter(attribute), shown, 1 if attribute == "throughput" else 2
        )
        if attribute == "throughput":
            series = (*series, *_fitted_series(cells, styles, curves))
        header = ("backend", "ranks", f"{title.lower()} (95 % interval)", "trials", "flags")
        over = " over ranks" if has_curve(cells) else ""
        table = Table(f"{title}{over}", header, rows)
        figures.append(
            Figure(
                f"{key}-{attribute}",
                title,
                "ranks",
                y_title,
                series,
                caption,
                table,
                ideal,
                percent=ideal == "one",
                grows=ideal != "one",
            )
        )
    breakdown_figures = (host_device_figure(key, cells), loss_figure(key, cells), time_figure(key, cells))
    return (*(figure for figure in figures if figure.series), *(figure for figure in breakdown_figures if figure))


def _fitted_series(
    cells: Sequence[Cell], styles: Mapping[str, SeriesStyle], curves: Mapping[str, Curve]
) -> list[Series]:
    """The fitted line of each curve, between its first and its last rank count."""
    lines = []
    for key in dict.fromkeys(cell.case.curve for cell in cells):
        curve = curves.get(key)
        if curve is None or curve.model in (None, "linear") or not curve.fitted:
            continue
        name = next(cell.labels.backend for cell in cells if cell.case.curve == key)
        x, y = zip(*curve.fitted, strict=True)
        lines.append(
            point_series(
                f"{name}: {formatting.MODEL_TITLES[curve.model]}", x, y, styles[name].fitted(curve.model), "fitted"
            )
        )
    return lines


def _throughput_caption(cells: Sequence[Cell]) -> str:
    best = max(cells, key=lambda cell: cell.throughput.value if cell.throughput else 0)
    where = best.labels.backend_at_ranks
    return f"The highest: {best.labels.throughput}, {where}. Error bars are 95 % intervals over trials."


def _scaling_caption(cells: Sequence[Cell]) -> str:
    scaled = [cell for cell in cells if cell.speedup is not None and cell.case.ranks > 1]
    if not scaled:
        return "No speed-up: it needs a curve at two rank counts whose ranks share neither cores nor GPUs."
    parts = [
        f"{cell.labels.backend} {cell.labels.speedup}× at {cell.labels.ranks}"
        for cell in scaled
        if cell.case.ranks == max(other.case.ranks for other in scaled)
    ]
    return f"Speed-up: {'; '.join(parts)}. The dotted line is ideal."


def _efficiency_caption(cells: Sequence[Cell]) -> str:
    scaled = [cell for cell in cells if cell.efficiency is not None and cell.case.ranks > 1]
    if not scaled:
        return "No efficiency: it needs a curve at two rank counts whose ranks share neither cores nor GPUs."
    best = max(scaled, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    worst = min(scaled, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    return (
        f"Efficiency is between {worst.labels.efficiency} ({worst.labels.backend}, "
        f"{worst.labels.ranks}) and "
        f"{best.labels.efficiency} ({best.labels.backend}, "
        f"{best.labels.ranks}); 100 % is ideal."
    )


def report_title(name: str, cells: Sequence[Cell]) -> str:
    """``Scaling report: nightly``; ``Report: nightly`` where there is no curve."""
    return f"{'Scaling report' if has_curve(cells) else 'Report'}: {name}"


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

    Args:
        title: of the page.
        findings: of the sweep or sweeps.
        not_applicable: the combinations that were not planned, with the reason.
        provenance: rows of a name and its value in each sweep.
        comparisons: of each further sweep with the first.
        downloads: files that the page contains.
        remarks: further warnings.
    """
    cells = with_shown_titles(findings.cells)
    findings, scaling = replace(findings, cells=cells), has_curve(cells)
    groups = group_cells(cells)
    # The cells of groups first: the labels of their figures may name values of axes.
    shown = [*(cell for group in groups for cell in group.cells), *cells]
    styles = backend_styles(shown)
    styles_by_case = {cell.case.key: styles[cell.labels.backend] for cell in reversed(shown)}
    changes = tuple(comparison_section.comparison_sentence(comparison) for comparison in comparisons)
    per_workload = (workload_sections(f"g{number}", group, styles, findings) for number, group in enumerate(groups))
    every_section = (
        *comparison_section.sections(comparisons),
        *axes_section.sections(findings.axes, styles_by_case),
        *chain.from_iterable(per_workload),
        *collectives_section.sections(cells),
        *nodes_section.sections(findings.placements, styles),
        *network_section.sections(findings.networks, styles),
        *nccl_section.sections(cells),
        *predictions.sections(findings, styles),
        *_detail_sections(findings, groups, styles, not_applicable, provenance),
    )
    sections = tuple(with_rank_axes(without_curves(section, scaling=scaling)) for section in every_section)
    long = is_long(groups)
    return Page(
        title=title,
        answers=(*changes, outcome_counts(groups)) if long else (*changes, *summary.answer_sentences(findings)),
        warnings=(*summary.problem_lines(cells), *summary.flag_lines(findings), *remarks),
        sections=(overview(groups), *map(fold_section, sections)) if long else sections,
        downloads=tuple(downloads),
    )


def _detail_sections(
    findings: Findings,
    groups: Sequence[CellGroup],
    styles: Mapping[str, SeriesStyle],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
) -> Iterator[Section]:
    """The sections after those of the workloads, without empty ones."""
    cells = findings.cells
    limits = bottleneck_table(findings.bottlenecks, scaling=has_curve(cells))
    sections = (
        _table_section("All cells", tables.results_table(cells)),
        _table_section("Same work", tables.same_work_table(cells)),
        Section("Programs", tables=_with_rows(programs.programs_table(cells), programs.whole_runs_table(cells))),
        _table_section(limits.caption, limits),
        _table_section("Scaling laws", tables.scaling_table(cells, findings.curves)),
        _table_section("Where the time goes", tables.decomposition_table(cells)),
        Section(
            ROOFLINE,
            figures=roofline_figures(cells, styles),
            tables=_with_rows(roofline_table(cells), peaks_table(cells)),
        ),
        Section("Usage of ranks, hosts and GPUs", tables=usage_tables(cells)),
        energy_section(groups, styles),
        _table_section("Costs", resources.cost_table(cells)),
        _table_section("Conditions", tables.conditions_table(cells)),
        _table_section(CHECKPOINTS_TITLE, checkpoint_table(cells)),
        _table_section("Further readings", tables.readings_table(cells)),
        _table_section("Failed and skipped", tables.failures_table(cells)),
        _table_section("Different implementations", tables.implementation_table(cells)),
        _table_section("Not applicable", tables.not_applicable_table(not_applicable)),
        _table_section("Flags", tables.flags_table(cells)),
        Section("What sampled readings are made of", tables=(update_timings_table(cells),), folded=True),
        _table_section("Settings", tables.settings_table(cells)),
        _table_section("Environment variables", tables.variables_table(cells)),
        _table_section("Provenance", tables.provenance_table(provenance)),
    )
    return (section for section in sections if any(table.rows for table in section.tables))


def _with_rows(*shown: Table) -> tuple[Table, ...]:
    return tuple(table for table in shown if table.rows)


def _table_section(title: str, table: Table, figures: tuple[Figure, ...] = ()) -> Section:
    return Section(title, figures=figures, tables=(table,))
