"""A collective over message sizes: bus bandwidth and time, with the fitted α–β line of each exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.cells import Cell
from reports.exchanges import FittedExchange, way_of
from reports.page import words
from reports.page.over_ranks import series_of
from reports.page.values import Figure, Series, Table


def message_figures(
    key: str, cells: Sequence[Cell], styles: Mapping[str, int], exchanges: Mapping[str, FittedExchange]
) -> tuple[Figure, ...]:
    bandwidth: list[Series] = []
    times: list[Series] = []
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        name = f"{words.backend_title(cell.case)}, {words.ranks(cell.case.ranks)}"
        sizes = tuple(float(message.message_bytes) for message in cell.messages)
        style = styles[words.backend_title(cell.case)]
        bandwidth.append(series_of(name, sizes, [message.bus_bandwidth for message in cell.messages], style))
        times.append(series_of(name, sizes, [message.time_s for message in cell.messages], style))
        rows += [
            (name, words.message_size(message.message_bytes), words.milliseconds(message.time_s),
             words.measured(message.algorithm_bandwidth), words.measured(message.bus_bandwidth))
            for message in cell.messages
        ]  # fmt: skip
    times += _fitted(cells, styles, exchanges)
    best = max((series for series in bandwidth), key=lambda series: max(series.y))
    peak = max(range(len(best.y)), key=lambda position: best.y[position])
    sentence = (
        f"The highest bus bandwidth, {words.number(best.y[peak])}B/s, was seen with {best.name} "
        f"at {words.message_size(int(best.x[peak]))}. Bus bandwidth = bytes ÷ time × 2(N−1)/N."
    )
    smallest = min((series for series in times if series.look != "fitted"), key=lambda series: series.y[0])
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


def _fitted(cells: Sequence[Cell], styles: Mapping[str, int], exchanges: Mapping[str, FittedExchange]) -> list[Series]:
    """The time by α and β, for each way that gradients travel, at its largest rank count."""
    lines = []
    for way in dict.fromkeys(way_of(cell.case) for cell in cells):
        own = max((cell for cell in cells if way_of(cell.case) == way), key=lambda cell: cell.case.ranks)
        model = exchanges[way].model if way in exchanges else None
        if model is None or not own.messages:
            continue
        sizes = tuple(float(message.message_bytes) for message in own.messages)
        y = tuple(model.time_s(own.case.ranks, size) for size in sizes)
        name, unknown = words.backend_title(own.case), (None,) * len(sizes)
        lines.append(Series(f"{name}, {words.ranks(own.case.ranks)}: α–β {model.algorithm}", sizes, y, unknown, unknown,
                            styles[name], (False,) * len(sizes), look="fitted"))  # fmt: skip
    return lines
