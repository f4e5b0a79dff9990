"""The sections of one workload: throughput, speed-up and efficiency over ranks, where time goes, what was in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter

from reports.analysis.curve import Curve
from reports.analysis.stats import Estimate
from reports.cells import Cell
from reports.findings import Findings
from reports.page import words
from reports.page.loss_figure import loss_figure
from reports.page.message_figures import message_figures
from reports.page.over_ranks import series_by_ranks
from reports.page.step_figure import step_time_figure
from reports.page.time_figure import time_figure
from reports.page.timeline_figures import timeline_section
from reports.page.values import Figure, Ideal, Section, Series, Table


def workload_sections(
    key: str, cells: Sequence[Cell], styles: Mapping[str, int], findings: Findings
) -> Iterator[Section]:
    """Of the cells of one group; none where no cell gave a number. ``key`` begins the keys of its figures."""
    shown = [cell for cell in cells if cell.throughput is not None]
    if not shown:
        return
    if any(cell.messages for cell in shown):
        figures = message_figures(key, shown, styles, findings.exchanges)
    else:
        figures = _rank_figures(key, shown, styles, findings.curves)
    steps = step_time_figure(key, shown)
    case = cells[0].case
    yield Section(words.group_title(cells), words.case_conditions(case), (*figures, *((steps,) if steps else ())))
    if (over_time := timeline_section(key, shown, styles)) is not None:
        yield over_time


def _rank_figures(
    key: str, cells: Sequence[Cell], styles: Mapping[str, int], curves: Mapping[str, Curve]
) -> tuple[Figure, ...]:
    unit = next(cell.throughput.unit for cell in cells if cell.throughput)
    specs: tuple[tuple[str, str, str, str, Callable[[Estimate], str], Ideal | None], ...] = (
        ("throughput", "Throughput", f"throughput ({unit})", _throughput_sentence(cells), words.estimate, None),
        ("speedup", "Speed-up", "speed-up", _scaling_sentence(cells), words.estimate, "linear"),
        ("efficiency", "Efficiency", "efficiency", _efficiency_sentence(cells), words.percent, "one"),
    )
    figures = []
    for attribute, title, y_title, sentence, shown, ideal in specs:
        series, rows = series_by_ranks(
            cells, styles, attrgetter(attribute), shown, 1 if attribute == "throughput" else 2
        )
        if attribute == "throughput":
            series = (*series, *_fitted_series(cells, styles, curves))
        header = ("backend", "ranks", f"{title.lower()} (95 % interval)", "trials", "flags")
        table = Table(f"{title} over ranks", header, rows)
        figures.append(
            Figure(
                f"{key}-{attribute}", title, "ranks", y_title, series, sentence, table, ideal, percent=ideal == "one"
            )
        )
    breakdown_figures = (loss_figure(key, cells), time_figure(key, cells))
    return (*(figure for figure in figures if figure.series), *(figure for figure in breakdown_figures if figure))


def _fitted_series(cells: Sequence[Cell], styles: Mapping[str, int], curves: Mapping[str, Curve]) -> list[Series]:
    """The fitted line of each curve, between its first and its last rank count."""
    lines = []
    for key in dict.fromkeys(cell.case.curve for cell in cells):
        curve = curves.get(key)
        if curve is None or curve.model in (None, "linear") or not curve.fitted:
            continue
        name = words.backend_title(next(cell.case for cell in cells if cell.case.curve == key))
        x, y = zip(*curve.fitted, strict=True)
        unknown = (None,) * len(x)
        lines.append(
            Series(
                f"{name}: {words.MODEL_TITLES[curve.model]}",
                x,
                y,
                unknown,
                unknown,
                styles[name],
                (False,) * len(x),
                look="fitted",
            )
        )
    return lines


def _throughput_sentence(cells: Sequence[Cell]) -> str:
    best = max(cells, key=lambda cell: cell.throughput.value if cell.throughput else 0)
    where = words.backend_at_ranks(best.case)
    return f"The highest value: {words.estimate(best.throughput)}, {where}. Bars are 95 % intervals over trials."


def _scaling_sentence(cells: Sequence[Cell]) -> str:
    found = [cell for cell in cells if cell.speedup is not None and cell.case.ranks > 1]
    if not found:
        return "No speed-up can be told: it takes one curve at two rank counts that are not oversubscribed."
    parts = [
        f"{words.backend_title(cell.case)} {words.estimate(cell.speedup)}× at {words.ranks_on_nodes(cell.case)}"
        for cell in found
        if cell.case.ranks == max(other.case.ranks for other in found)
    ]
    return f"Speed-up: {'; '.join(parts)}. The dotted line is ideal."


def _efficiency_sentence(cells: Sequence[Cell]) -> str:
    found = [cell for cell in cells if cell.efficiency is not None and cell.case.ranks > 1]
    if not found:
        return "No efficiency can be told: it takes one curve at two rank counts that are not oversubscribed."
    best = max(found, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    worst = min(found, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    return (
        f"Efficiency lies between {words.percent(worst.efficiency)} ({words.backend_title(worst.case)}, "
        f"{words.ranks_on_nodes(worst.case)}) and {words.percent(best.efficiency)} ({words.backend_title(best.case)}, "
        f"{words.ranks_on_nodes(best.case)}); 100 % is ideal."
    )
