"""Efficiency and step time over networks of different bandwidth, measured and predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.placement_effects import CellOverLink
from reports.page.elements import Figure, Section, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import interval_series, point_series

RATE_TITLE = "bandwidth of a link (B/s)"
NOTE = (
    "Predicted: measured compute + the exchange by α and β of that network. Lower bound: each of n nodes sends at "
    "least 2(n−1)/n of the gradients, so that no step is shorter. Bandwidths are of payload each way, measured before "
    "the trials."
)


def sections(cells: Sequence[CellOverLink], styles: Mapping[str, SeriesStyle]) -> Iterator[Section]:
    """One section, where the same ranks were measured over several networks."""
    if cells:
        figures = tuple(
            figure for number, group in enumerate(_groups(cells)) for figure in _figures(f"net-{number}", group, styles)
        )
        yield Section("Over networks of different speed", figures=figures, tables=(network_table(cells),))


def network_table(cells: Sequence[CellOverLink]) -> Table:
    """One row for each cell over a network: measured, predicted, and the lower bound of the links."""
    rows = tuple(
        (
            cell.labels.workload,
            cell.labels.backend,
            cell.labels.rank_count,
            cell.case.scaling,
            cell.net_title,
            formatting.byte_rate(cell.link_bytes_s),
            cell.labels.efficiency,
            _percent(cell.modelled_efficiency),
            cell.labels.step,
            _predicted_step(cell),
            "–" if cell.floor_s is None else formatting.duration(cell.floor_s),
            _step_over_floor(cell),
        )
        for cell in cells
    )
    header = (
        "workload",
        "backend",
        "ranks",
        "scaling",
        "network",
        "bandwidth",
        "efficiency (95 %)",
        "predicted",
        "median step",
        "predicted step",
        "lower bound of the links",
        "step ÷ lower bound",
    )
    return Table("Over networks of different speed", header, rows, NOTE)


def compact_network_table(cells: Sequence[CellOverLink]) -> Table:
    """The columns of :func:`network_table` that fit a terminal, or the table of a figure."""
    rows = tuple(
        (
            f"{cell.labels.workload} · {cell.labels.backend_and_ranks}",
            cell.net_title,
            cell.labels.efficiency,
            _percent(cell.modelled_efficiency),
            cell.labels.step,
            "–" if cell.modelled_step_s is None else formatting.duration(cell.modelled_step_s),
            "–" if cell.floor_s is None else formatting.duration(cell.floor_s),
        )
        for cell in cells
    )
    header = ("cell", "network", "efficiency (95 %)", "predicted", "step", "predicted step", "lower bound of the links")
    return Table("Over networks of different speed", header, rows)


def _percent(value: float | None) -> str:
    return "–" if value is None else formatting.share(value)


def _predicted_step(cell: CellOverLink) -> str:
    if cell.modelled_step_s is None:
        return f"– ({cell.modelled_reason})"
    return formatting.duration(cell.modelled_step_s)


def _step_over_floor(cell: CellOverLink) -> str:
    if cell.floor_s is None or cell.step_s is None:
        return "–"
    return f"{formatting.number(cell.step_s.value / cell.floor_s)}×"


def _groups(cells: Sequence[CellOverLink]) -> list[list[CellOverLink]]:
    groups: dict[tuple[str, str], list[CellOverLink]] = {}
    for cell in cells:
        groups.setdefault((cell.labels.workload, cell.case.scaling), []).append(cell)
    return list(groups.values())


def _figures(key: str, cells: Sequence[CellOverLink], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """The figures of one group: each backend at the most ranks that were measured over several networks."""
    lines = [line for line in _lines(cells) if len(line) > 1]
    title = f"{cells[0].labels.workload} · {cells[0].labels.scaling}"
    efficiency = tuple(series for line in lines for series in _efficiency(line, styles))
    if efficiency:
        summaries = "; ".join(_efficiency_summary(line) for line in lines if line[0].efficiency and line[-1].efficiency)
        yield Figure(
            f"{key}-efficiency",
            f"Efficiency over bandwidth: {title}",
            RATE_TITLE,
            "efficiency",
            efficiency,
            f"{summaries}. Dotted: predicted by α and β.",
            compact_network_table(cells),
            "one",
            percent=True,
            log_x=True,
        )
    steps = (*(series for line in lines for series in _steps(line, styles)), *_floors(lines, styles))
    if steps:
        yield Figure(
            f"{key}-step",
            f"Step over bandwidth: {title}",
            RATE_TITLE,
            "step time",
            steps,
            f"{_slowest_link_summary(lines)} Dotted: predicted, and the lower bound of the links.",
            compact_network_table(cells),
            log_x=True,
            log_y=True,
            seconds=True,
        )


def _lines(cells: Sequence[CellOverLink]) -> list[list[CellOverLink]]:
    """By backend, its cells at its most ranks, the slowest link first."""
    by_name: dict[str, list[CellOverLink]] = {}
    for cell in cells:
        by_name.setdefault(cell.labels.backend, []).append(cell)
    return [
        [cell for cell in own if cell.case.ranks == max(other.case.ranks for other in own)] for own in by_name.values()
    ]


def _efficiency_summary(line: Sequence[CellOverLink]) -> str:
    slow, fast = line[0], line[-1]
    return (
        f"{slow.labels.backend_and_ranks}: {slow.labels.efficiency} "
        f"over {slow.net_title}, "
        f"{fast.labels.efficiency} over {fast.net_title}"
    )


def _slowest_link_summary(lines: Sequence[Sequence[CellOverLink]]) -> str:
    slow = next(line[0] for line in lines)
    floor = "" if slow.floor_s is None else f"; the links alone take {formatting.duration(slow.floor_s)}"
    return f"{slow.labels.backend_and_ranks} over {slow.net_title}: {slow.labels.step}{floor}."


def _efficiency(line: Sequence[CellOverLink], styles: Mapping[str, SeriesStyle]) -> Iterator[Series]:
    name, style = line[0].labels.backend_and_ranks, styles[line[0].labels.backend]
    measured = [(_link_rate(cell), cell.efficiency) for cell in line if cell.efficiency is not None]
    if measured:
        yield interval_series(name, [(x, y.value, y.low, y.high) for x, y in measured], style)
    predicted = [(_link_rate(cell), cell.modelled_efficiency) for cell in line if cell.modelled_efficiency is not None]
    if len(predicted) > 1:
        yield _fitted_series(f"{name}: predicted", predicted, style.fitted("predicted"))


def _steps(line: Sequence[CellOverLink], styles: Mapping[str, SeriesStyle]) -> Iterator[Series]:
    name, style = line[0].labels.backend_and_ranks, styles[line[0].labels.backend]
    measured = [(_link_rate(cell), cell.step_s) for cell in line if cell.step_s is not None]
    if measured:
        yield interval_series(name, [(x, y.value, y.low, y.high) for x, y in measured], style)
    predicted = [(_link_rate(cell), cell.modelled_step_s) for cell in line if cell.modelled_step_s is not None]
    if len(predicted) > 1:
        yield _fitted_series(f"{name}: predicted", predicted, style.fitted("predicted"))


def _floors(lines: Sequence[Sequence[CellOverLink]], styles: Mapping[str, SeriesStyle]) -> Iterator[Series]:
    """The lower bounds; backends that send the same amount share one."""
    seen: set[tuple[tuple[float, float], ...]] = set()
    for line in lines:
        points = tuple((_link_rate(cell), cell.floor_s) for cell in line if cell.floor_s is not None)
        if len(points) > 1 and points not in seen:
            name = (
                "lower bound of the links"
                if not seen
                else f"{line[0].labels.backend_and_ranks}: lower bound of the links"
            )
            yield _fitted_series(name, points, styles[line[0].labels.backend].fitted("lower bound"))
            seen.add(points)


def _link_rate(cell: CellOverLink) -> float:
    """Rounded to three digits, as precise as an axis shows."""
    return float(f"{cell.link_bytes_s:.3g}")


def _fitted_series(name: str, points: Sequence[tuple[float, float]], style: SeriesStyle) -> Series:
    x, y = zip(*points, strict=True)
    return point_series(name, x, y, style, "fitted")
