"""From cells to the page: its sections and figures. It draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.records import Case
from reports.analysis.curve import Curve
from reports.analysis.stats import Estimate
from reports.cells import Cell
from reports.comparison import Comparison
from reports.curves import curves_of
from reports.exchanges import exchanges_of
from reports.forecasts import LinkSpec, forecasts_of
from reports.page import comparison_section, predictions, tables, text, why_table, words
from reports.page.roofline import TITLE as ROOFLINE
from reports.page.roofline import roofline_figures, roofline_table
from reports.page.time_figure import time_figure
from reports.page.values import Figure, Ideal, Page, Section, Series, Table
from reports.why import reasons


def make_page(
    title: str,
    cells: Sequence[Cell],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
    counts: Sequence[int] = (),
    link: LinkSpec | None = None,
    comparisons: Sequence[Comparison] = (),
) -> Page:
    """The page of one sweep, or of several side by side whose cells are labelled.

    ``provenance``: what, and its value in each sweep. ``counts``: where to foretell throughput; ``link``: over what
    else than was measured.
    """
    groups, curves = text.grouped(cells), curves_of(cells)
    styles = {name: number for number, name in enumerate(dict.fromkeys(words.backend_title(c.case) for c in cells))}
    return Page(
        title=title,
        answers=(
            *(comparison_section.sentence(one) for one in comparisons),
            *(words.answer(group) for group in groups),
        ),
        warnings=tuple(text.remarks(cells)),
        sections=(
            *([comparison_section.section(comparisons)] if any(one.changes for one in comparisons) else ()),
            *(_section(f"g{number}", group, styles, curves) for number, group in enumerate(groups) if _shown(group)),
            *_predictions(cells, curves, styles, counts, link),
            *_appendix(cells, curves, not_applicable, provenance),
        ),
    )


def _predictions(
    cells: Sequence[Cell],
    curves: Mapping[str, Curve],
    styles: dict[str, int],
    counts: Sequence[int],
    link: LinkSpec | None,
) -> list[Section]:
    forecasts, exchanges = forecasts_of(cells, curves, counts, link), exchanges_of(cells)
    found = predictions.section(cells, forecasts, exchanges, link, styles)
    return [found] if found.tables else []


def _appendix(
    cells: Sequence[Cell],
    curves: Mapping[str, Curve],
    not_applicable: Sequence[tuple[Case, str]],
    provenance: Sequence[tuple[str, ...]],
) -> Iterator[Section]:
    """The tables that stand by themselves; empty ones are left out."""
    titled = (
        ("All cells", tables.results(cells)),
        ("Same work", tables.same_work(cells)),
        ("Why it stops scaling", why_table.table(reasons(cells, curves))),
        ("Laws of scaling", tables.scaling(cells, curves)),
        ("Where the time goes", tables.decomposition(cells)),
        (ROOFLINE, roofline_table(cells)),
        ("Use of ranks, hosts and GPUs", tables.usage(cells)),
        ("Conditions", tables.conditions(cells)),
        ("Further readings", tables.readings(cells)),
        ("Failed and skipped", tables.troubles(cells)),
        ("Other machinery", tables.machinery(cells)),
        ("Not applicable", tables.not_applicable(not_applicable)),
        ("Flags", tables.flags(cells)),
        ("Settings", tables.settings(cells)),
        ("Provenance", tables.provenance(provenance)),
    )
    figures = {ROOFLINE: roofline_figures(cells)}
    return (Section(title, figures=figures.get(title, ()), tables=(table,)) for title, table in titled if table.rows)


def _shown(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.throughput is not None]


def _section(key: str, cells: Sequence[Cell], styles: dict[str, int], curves: Mapping[str, Curve]) -> Section:
    case = cells[0].case
    answer = words.answer(cells)
    shown = _shown(cells)
    figures = _message_figures(key, shown, styles) if any(cell.messages for cell in shown) else ()
    return Section(
        words.group_title(cells), words.conditions(case), figures or _rank_figures(key, shown, styles, answer, curves)
    )


def _rank_figures(
    key: str, cells: Sequence[Cell], styles: dict[str, int], answer: str, curves: Mapping[str, Curve]
) -> tuple[Figure, ...]:
    unit = next(cell.throughput.unit for cell in cells if cell.throughput)
    drafts: tuple[tuple[str, str, str, str, Callable[[Estimate], str], Ideal | None], ...] = (
        ("throughput", "Throughput", f"throughput ({unit})", answer, words.measured, None),
        ("speedup", "Speed-up", "speed-up", _scaling_sentence(cells), words.measured, "linear"),
        ("efficiency", "Efficiency", "efficiency", _efficiency_sentence(cells), words.percent, "one"),
    )
    figures = []
    for attribute, title, y_title, sentence, shown, ideal in drafts:
        series, rows = _curves(cells, styles, attribute, shown)
        if attribute == "throughput":
            series = (*series, *_fits(cells, styles, curves))
        header = ("backend", "ranks", f"{title.lower()} (95 % interval)", "trials", "flags")
        table = Table(f"{title} over ranks", header, rows)
        figures.append(Figure(f"{key}-{attribute}", title, "ranks", y_title, series, sentence, table, ideal,
                              percent=ideal == "one"))  # fmt: skip
    parts = time_figure(key, cells)
    return (*(figure for figure in figures if figure.series), *((parts,) if parts else ()))


def _curves(
    cells: Sequence[Cell], styles: dict[str, int], attribute: str, shown: Callable[[Estimate], str]
) -> tuple[tuple[Series, ...], tuple[tuple[str, ...], ...]]:
    """One series a backend over ranks of the named estimate, and the rows of its table."""
    series, rows = [], []
    for name in dict.fromkeys(words.backend_title(cell.case) for cell in cells):
        points = [
            (cell.case.ranks, found, ", ".join(cell.flags))
            for cell in sorted(cells, key=lambda cell: cell.case.ranks)
            if words.backend_title(cell.case) == name and (found := getattr(cell, attribute)) is not None
        ]
        rows += [(name, str(ranks), shown(found), str(found.n), flags or "–") for ranks, found, flags in points]
        if len(points) > 1 or (points and attribute == "throughput"):
            x = tuple(float(ranks) for ranks, _, _ in points)
            hollow = tuple("oversubscribed" in flags for _, _, flags in points)
            series.append(_series(name, x, [found for _, found, _ in points], styles[name], hollow))
    return tuple(series), tuple(rows)


def _fits(cells: Sequence[Cell], styles: dict[str, int], curves: Mapping[str, Curve]) -> list[Series]:
    """The fitted line of each curve, between its first and its last rank count."""
    lines = []
    for key in dict.fromkeys(cell.case.curve for cell in cells):
        curve = curves.get(key)
        if curve is None or curve.model in (None, "linear") or not curve.fitted:
            continue
        name = words.backend_title(next(cell.case for cell in cells if cell.case.curve == key))
        x, y = zip(*curve.fitted, strict=True)
        unknown = (None,) * len(x)
        lines.append(Series(f"{name}: {words.MODELS[curve.model]}", x, y, unknown, unknown, styles[name],
                            (False,) * len(x), look="fitted"))  # fmt: skip
    return lines


def _series(
    name: str, x: tuple[float, ...], found: Sequence[Estimate], style: int, hollow: tuple[bool, ...] | None = None
) -> Series:
    low, high = tuple(f.low for f in found), tuple(f.high for f in found)
    return Series(name, x, tuple(f.value for f in found), low, high, style, hollow or (False,) * len(x))


def _scaling_sentence(cells: Sequence[Cell]) -> str:
    found = [cell for cell in cells if cell.speedup is not None and cell.case.ranks > 1]
    if not found:
        return "No speed-up can be told: it takes one curve at two rank counts that are not oversubscribed."
    parts = [f"{words.backend_title(cell.case)} {words.measured(cell.speedup)}× at {words.ranks(cell.case.ranks)}"
             for cell in found if cell.case.ranks == max(other.case.ranks for other in found)]  # fmt: skip
    return f"Speed-up: {'; '.join(parts)}. The dotted line is ideal."


def _efficiency_sentence(cells: Sequence[Cell]) -> str:
    found = [cell for cell in cells if cell.efficiency is not None and cell.case.ranks > 1]
    if not found:
        return "No efficiency can be told: it takes one curve at two rank counts that are not oversubscribed."
    best = max(found, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    worst = min(found, key=lambda cell: cell.efficiency.value if cell.efficiency else 0)
    return (
        f"Efficiency lies between {words.percent(worst.efficiency)} ({words.backend_title(worst.case)}, "
        f"{words.ranks(worst.case.ranks)}) and {words.percent(best.efficiency)} ({words.backend_title(best.case)}, "
        f"{words.ranks(best.case.ranks)}); 100 % is ideal."
    )


def _message_figures(key: str, cells: Sequence[Cell], styles: dict[str, int]) -> tuple[Figure, ...]:
    bandwidth: list[Series] = []
    times: list[Series] = []
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        name = f"{words.backend_title(cell.case)}, {words.ranks(cell.case.ranks)}"
        sizes = tuple(float(message.message_bytes) for message in cell.messages)
        style = styles[words.backend_title(cell.case)]
        bandwidth.append(_series(name, sizes, [message.bus_bandwidth for message in cell.messages], style))
        times.append(_series(name, sizes, [message.time_s for message in cell.messages], style))
        rows += [
            (name, words.message_size(message.message_bytes), words.milliseconds(message.time_s),
             words.measured(message.algorithm_bandwidth), words.measured(message.bus_bandwidth))
            for message in cell.messages
        ]  # fmt: skip
    best = max((series for series in bandwidth), key=lambda series: max(series.y))
    peak = max(range(len(best.y)), key=lambda position: best.y[position])
    sentence = (
        f"The highest bus bandwidth, {words.number(best.y[peak])}B/s, was seen with {best.name} "
        f"at {words.message_size(int(best.x[peak]))}. Bus bandwidth = bytes ÷ time × 2(N−1)/N."
    )
    smallest = min(times, key=lambda series: series.y[0])
    table = Table(
        "Allreduce over message size",
        ("backend", "message", "time", "algorithm bandwidth (95 %)", "bus bandwidth (95 %)"),
        tuple(rows),
    )
    return (
        Figure(f"{key}-bandwidth", "Bus bandwidth", "message (bytes)", "bus bandwidth (B/s)", tuple(bandwidth),
               sentence, table, log_x=True, log_y=True),
        Figure(f"{key}-time", "Time", "message (bytes)", "time of one allreduce (s)", tuple(times),
               f"The smallest message takes {words.number(smallest.y[0] * 1e3)} ms at best, with {smallest.name}.",
               table, log_x=True, log_y=True),
    )  # fmt: skip
