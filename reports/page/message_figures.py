"""A collective over message sizes: bus bandwidth and time, with the fitted line of each communication path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from bench.core.collectives import Collective
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import CommunicationPath, path_key
from reports.analysis.placement import Place, Placement, place_of, placement_of
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series, point_series

BUS_FACTORS: dict[Collective, str] = {
    "all_reduce": " × 2(N−1)/N",
    "all_gather": " × (N−1)/N",
    "reduce_scatter": " × (N−1)/N",
    "all_to_all": " × (N−1)/N",
    "broadcast": "",
    "send_recv": "",
}
"""The factors of :func:`bench.core.collectives.bus_factor`, as text."""


def message_figures(
    key: str, cells: Sequence[Cell], styles: Mapping[str, SeriesStyle], exchanges: Mapping[str, CommunicationPath]
) -> tuple[Figure, ...]:
    """Bus bandwidth and time over message sizes, with the fitted α–β line of each path.

    Args:
        key: begins the keys of the figures.
        cells: of one collective operation.
        styles: the style of each backend, by its title.
        exchanges: the communication paths of the sweep.
    """
    operation = next(message.operation for cell in cells for message in cell.messages)
    table = _table(operation, cells)
    return _bandwidth_figure(key, operation, cells, styles, table), _time_figure(
        key, operation, cells, styles, exchanges, table
    )


def _bandwidth_figure(
    key: str, operation: Collective, cells: Sequence[Cell], styles: Mapping[str, SeriesStyle], table: Table
) -> Figure:
    series = tuple(
        _measured_series(cell, [message.bus_bandwidth for message in cell.messages], style)
        for cell, style in _with_styles(cells, styles)
    )
    best = max(series, key=lambda series: max(series.y))
    highest, size = max(zip(best.y, best.x, strict=True), key=lambda point: point[0])
    caption = (
        f"The highest bus bandwidth, {formatting.byte_rate(highest)}, was measured with {best.name} "
        f"at {formatting.message_size(int(size))}. Bus bandwidth = bytes ÷ time"
        f"{BUS_FACTORS[operation]}, as nccl-tests define it."
    )
    return Figure(
        f"{key}-bandwidth",
        "Bus bandwidth",
        "message (bytes)",
        "bus bandwidth (B/s)",
        series,
        caption,
        table,
        log_x=True,
        log_y=True,
    )


def _time_figure(
    key: str,
    operation: Collective,
    cells: Sequence[Cell],
    styles: Mapping[str, SeriesStyle],
    exchanges: Mapping[str, CommunicationPath],
    table: Table,
) -> Figure:
    series = tuple(
        _measured_series(cell, [message.time_s for message in cell.messages], style)
        for cell, style in _with_styles(cells, styles)
    )
    fitted = _fitted_series(cells, styles, exchanges) if operation == "all_reduce" else ()
    quickest = min(series, key=lambda series: series.y[0])
    return Figure(
        f"{key}-time",
        "Time",
        "message (bytes)",
        f"time of one {operation}",
        (*series, *fitted),
        f"The smallest message takes {formatting.duration(quickest.y[0])} at best, with {quickest.name}.",
        table,
        log_x=True,
        log_y=True,
        seconds=True,
    )


def _with_styles(cells: Sequence[Cell], styles: Mapping[str, SeriesStyle]) -> Iterator[tuple[Cell, SeriesStyle]]:
    """Each cell with a variant of its backend's style: the rank counts of a backend differ in dash and marker."""
    counts: Counter[str] = Counter()
    for cell in cells:
        backend = cell.labels.backend
        yield cell, styles[backend].variant(counts[backend])
        counts[backend] += 1


def _measured_series(cell: Cell, estimates: Sequence[Estimate], style: SeriesStyle) -> Series:
    """An estimate of each message of a cell over its size."""
    sizes = [float(message.message_bytes) for message in cell.messages]
    return estimate_series(cell.labels.backend_and_ranks, sizes, estimates, style)


def _table(operation: Collective, cells: Sequence[Cell]) -> Table:
    rows = tuple(
        (
            cell.labels.backend_and_ranks,
            formatting.message_size(message.message_bytes),
            formatting.duration_estimate(message.time_s),
            formatting.estimate(message.algorithm_bandwidth),
            formatting.estimate(message.bus_bandwidth),
        )
        for cell in cells
        for message in cell.messages
    )
    header = ("backend", "message", "time", "algorithm bandwidth (95 %)", "bus bandwidth (95 %)")
    return Table(f"{operation} over message size", header, rows)


def _fitted_series(
    cells: Sequence[Cell], styles: Mapping[str, SeriesStyle], exchanges: Mapping[str, CommunicationPath]
) -> list[Series]:
    """The time by α and β for each path and place, at its largest rank count."""
    largest: dict[tuple[str, Place], Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.case.ranks):
        largest[path_key(cell.case), place_of(cell.case)] = cell
    lines = []
    for (key, _), largest_cell in largest.items():
        path = exchanges.get(key)
        sizes = tuple(float(message.message_bytes) for message in largest_cell.messages)
        style = styles[largest_cell.labels.backend]
        for algorithm_label, time_s in _path_models(path, placement_of(largest_cell.case)) if path and sizes else ():
            y = tuple(time_s(size) for size in sizes)
            lines.append(
                point_series(
                    f"{largest_cell.labels.backend_and_ranks}: α–β {algorithm_label}",
                    sizes,
                    y,
                    style.fitted(algorithm_label),
                    "fitted",
                )
            )
    return lines


def _path_models(path: CommunicationPath, spread: Placement) -> Iterator[tuple[str, Callable[[float], float]]]:
    """The models of an allreduce at a placement, with their names; both algorithms where messages also cross nodes."""
    if path.unavailable_reason(spread) is not None:
        return
    if spread.place == "both" and path.layered is not None:
        for algorithm, model in path.layered.by_algorithm().items():
            yield algorithm, partial(model, spread.ranks, spread.nodes)
    elif (fitted := path.model(spread.place)) is not None:
        yield fitted.algorithm, partial(fitted.time_s, spread.ranks)
