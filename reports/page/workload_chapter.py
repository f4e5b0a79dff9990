"""The chapter of one workload: its figures, and its tables, whose rows do not repeat its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from reports.analysis import changes, formatting
from reports.analysis.cells import Cell
from reports.analysis.curve import Curve
from reports.analysis.findings import CellGroup, Findings, has_curve
from reports.analysis.stats import Estimate, is_baseline
from reports.analysis.units import join_units
from reports.page import predictions, programs, resources, tables
from reports.page.bottleneck_table import bottleneck_table
from reports.page.checkpoints import CHECKPOINTS_TITLE, checkpoint_table
from reports.page.elements import Chapter, Figure, Ideal, Section, Series, Table
from reports.page.gpu_section import gpu_section
from reports.page.host_device import host_device_figure
from reports.page.layout import FigureLayout
from reports.page.message_figures import message_figures
from reports.page.palette import SeriesStyle
from reports.page.price_section import price_section
from reports.page.resources import energy_section
from reports.page.roofline import ROOFLINE_TITLE as ROOFLINE
from reports.page.roofline import peaks_table, roofline_figures, roofline_table
from reports.page.series import point_series, series_by_ranks
from reports.page.step_parts import loss_figure, time_figure
from reports.page.step_times_figure import step_time_figure
from reports.page.timelines import host_section
from reports.page.usage import usage_tables


def workload_chapter(
    number: int, title: str, group: CellGroup, styles: Mapping[str, SeriesStyle], findings: Findings
) -> Iterator[Section]:
    """The sections of one workload, the figures first and open.

    Args:
        number: Of the workload, from 0; it begins the keys of its figures.
        title: Of the chapter.
        group: Its cells.
        styles: By the titles of backends.
        findings: Of the whole sweep.
    """
    chapter = Chapter(title, group.conditions, said=("workload", "scaling"))
    own = findings.of_group(group)
    for section in workload_sections(f"g{number}", group, styles, own):
        yield replace(section, heading=_heading(section.title, group), chapter=chapter)
    for section in _tables_of(own, styles):
        figures = tuple(replace(figure, key=f"g{number}-{figure.key}") for figure in section.figures)
        yield replace(section, figures=figures, chapter=chapter, folded=True)


def _heading(title: str, group: CellGroup) -> str:
    """``Figures``; ``Hosts over time`` of ``mnist: hosts over time``."""
    own = title.removeprefix(group.title).removeprefix(": ")
    return f"{own[:1].upper()}{own[1:]}" if own else "Figures"


def _tables_of(findings: Findings, styles: Mapping[str, SeriesStyle]) -> Iterator[Section]:
    """The sections below the figures, without empty ones."""
    cells = findings.cells
    limits = bottleneck_table(findings.bottlenecks, scaling=has_curve(cells))
    sections = (
        table_section("All cells", tables.results_table(cells)),
        table_section("Same work", tables.same_work_table(cells)),
        Section("Programs", tables=_with_rows(programs.programs_table(cells), programs.whole_runs_table(cells))),
        table_section(limits.caption, limits),
        table_section("Scaling laws", tables.scaling_table(cells, findings.curves)),
        *predictions.sections(findings, styles),
        table_section("Where the time goes", tables.decomposition_table(cells)),
        Section(
            ROOFLINE,
            figures=roofline_figures(cells, styles),
            tables=_with_rows(roofline_table(cells), peaks_table(cells)),
        ),
        Section("Usage of ranks, hosts and GPUs", tables=usage_tables(cells)),
        energy_section([CellGroup(cells)], styles),
        price_section(findings.priced, cells, findings.pricing),
        table_section("Costs", resources.cost_table(cells)),
        table_section("Conditions", tables.conditions_table(cells)),
        table_section(CHECKPOINTS_TITLE, checkpoint_table(cells)),
        table_section("Further readings", tables.readings_table(cells)),
    )
    return (section for section in sections if any(table.rows for table in section.tables))


def _with_rows(*shown: Table) -> tuple[Table, ...]:
    return tuple(table for table in shown if table.rows)


def table_section(title: str, table: Table) -> Section:
    """A section of one table."""
    return Section(title, tables=(table,))


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
    scaled = [cell for cell in cells if cell.speedup is not None and not is_baseline(cell.efficiency)]
    if not scaled:
        return "No speed-up: it needs a curve at two rank counts whose ranks share neither cores nor GPUs."
    parts = [
        f"{cell.labels.backend} {changes.times(cell.speedup)} at {cell.labels.ranks}"
        for cell in scaled
        if cell.speedup is not None and cell.case.ranks == max(other.case.ranks for other in scaled)
    ]
    return f"Speed-up: {'; '.join(parts)}. The dotted line is ideal."


def _efficiency_caption(cells: Sequence[Cell]) -> str:
    scaled = [cell for cell in cells if cell.efficiency is not None and not is_baseline(cell.efficiency)]
    if not scaled:
        return "No efficiency: it needs a curve at two rank counts whose ranks share neither cores nor GPUs."
    best = max(scaled, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    worst = min(scaled, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    if best is worst:
        return f"Efficiency is {best.labels.efficiency} ({best.labels.backend_at_ranks}); 100 % is ideal."
    return (
        f"Efficiency is between {worst.labels.efficiency} ({worst.labels.backend_at_ranks}) and "
        f"{best.labels.efficiency} ({best.labels.backend_at_ranks}); 100 % is ideal."
    )
