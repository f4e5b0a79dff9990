"""A collective over message sizes: bus bandwidth and time, with the fitted α–β line of each exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from reports.cells import Cell
from reports.exchanges import CommunicationPath, path_key
from reports.page import words
from reports.page.over_ranks import estimate_series
from reports.page.values import Figure, Series, Table
from reports.placement import Place, Placement, place_of, placement_of


def message_figures(
    key: str, cells: Sequence[Cell], styles: Mapping[str, int], exchanges: Mapping[str, CommunicationPath]
) -> tuple[Figure, ...]:
    bandwidth: list[Series] = []
    times: list[Series] = []
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        name = words.backend_and_ranks(cell.case)
        sizes = tuple(float(message.message_bytes) for message in cell.messages)
        style = styles[words.backend_title(cell.case)]
        bandwidth.append(estimate_series(name, sizes, [message.bus_bandwidth for message in cell.messages], style))
        times.append(estimate_series(name, sizes, [message.time_s for message in cell.messages], style))
        rows += [
            (
                name,
                words.message_size(message.message_bytes),
                words.duration_estimate(message.time_s),
                words.estimate(message.algorithm_bandwidth),
                words.estimate(message.bus_bandwidth),
            )
            for message in cell.messages
        ]
    times += _fitted_series(cells, styles, exchanges)
    best = max((series for series in bandwidth), key=lambda series: max(series.y))
    peak_position = max(range(len(best.y)), key=lambda position: best.y[position])
    sentence = (
        f"The highest bus bandwidth, {words.number(best.y[peak_position])}B/s, was seen with {best.name} "
        f"at {words.message_size(int(best.x[peak_position]))}. Bus bandwidth = bytes ÷ time × 2(N−1)/N."
    )
    smallest = min((series for series in times if series.look != "fitted"), key=lambda series: series.y[0])
    table = Table(
        "Allreduce over message size",
        ("backend", "message", "time", "algorithm bandwidth (95 %)", "bus bandwidth (95 %)"),
        tuple(rows),
    )
    return (
        Figure(
            f"{key}-bandwidth",
            "Bus bandwidth",
            "message (bytes)",
            "bus bandwidth (B/s)",
            tuple(bandwidth),
            sentence,
            table,
            log_x=True,
            log_y=True,
        ),
        Figure(
            f"{key}-time",
            "Time",
            "message (bytes)",
            "time of one allreduce (s)",
            tuple(times),
            f"The smallest message takes {words.number(smallest.y[0] * 1e3)} ms at best, with {smallest.name}.",
            table,
            log_x=True,
            log_y=True,
        ),
    )


def _fitted_series(
    cells: Sequence[Cell], styles: Mapping[str, int], exchanges: Mapping[str, CommunicationPath]
) -> list[Series]:
    """The time by α and β, for each way that gradients travel and each place, at its largest rank count."""
    largest: dict[tuple[str, Place], Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.case.ranks):
        largest[path_key(cell.case), place_of(cell.case)] = cell
    lines = []
    for (key, _), largest_cell in largest.items():
        path = exchanges.get(key)
        sizes = tuple(float(message.message_bytes) for message in largest_cell.messages)
        unknown, style = (None,) * len(sizes), styles[words.backend_title(largest_cell.case)]
        for algorithm_label, time_s in _path_models(path, placement_of(largest_cell.case)) if path and sizes else ():
            y = tuple(time_s(size) for size in sizes)
            lines.append(
                Series(
                    f"{words.backend_and_ranks(largest_cell.case)}: α–β {algorithm_label}",
                    sizes,
                    y,
                    unknown,
                    unknown,
                    style,
                    (False,) * len(sizes),
                    look="fitted",
                )
            )
    return lines


def _path_models(path: CommunicationPath, spread: Placement) -> Iterator[tuple[str, Callable[[float], float]]]:
    """What foretells an allreduce among such ranks; flat and hierarchical where messages stay inside nodes and cross
    them too."""
    if path.unavailable_reason(spread) is not None:
        return
    if spread.place == "both" and path.layered is not None:
        for algorithm, model in path.layered.either().items():
            yield algorithm, partial(model, spread.ranks, spread.nodes)
    elif (found := path.model(spread.place)) is not None:
        yield found.algorithm, partial(found.time_s, spread.ranks)
