"""A collective over message sizes: bus bandwidth and time, with the fitted α–β line of each exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from reports.cells import Cell
from reports.exchanges import Way, way_of
from reports.page import words
from reports.page.over_ranks import series_of
from reports.page.values import Figure, Series, Table
from reports.placement import Place, Spread, place_of, spread_of


def message_figures(
    key: str, cells: Sequence[Cell], styles: Mapping[str, int], exchanges: Mapping[str, Way]
) -> tuple[Figure, ...]:
    bandwidth: list[Series] = []
    times: list[Series] = []
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        name = words.point(cell.case)
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


def _fitted(cells: Sequence[Cell], styles: Mapping[str, int], exchanges: Mapping[str, Way]) -> list[Series]:
    """The time by α and β, for each way that gradients travel and each place, at its largest rank count."""
    largest: dict[tuple[str, Place], Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.case.ranks):
        largest[way_of(cell.case), place_of(cell.case)] = cell
    lines = []
    for (key, _), own in largest.items():
        way = exchanges.get(key)
        sizes = tuple(float(message.message_bytes) for message in own.messages)
        unknown, style = (None,) * len(sizes), styles[words.backend_title(own.case)]
        for said, time_s in _models(way, spread_of(own.case)) if way and sizes else ():
            y = tuple(time_s(size) for size in sizes)
            lines.append(Series(f"{words.point(own.case)}: α–β {said}", sizes, y, unknown, unknown, style,
                                (False,) * len(sizes), look="fitted"))  # fmt: skip
    return lines


def _models(way: Way, spread: Spread) -> Iterator[tuple[str, Callable[[float], float]]]:
    """What foretells an allreduce among such ranks; flat and hierarchical where messages stay inside nodes and cross
    them too."""
    if way.why_not(spread) is not None:
        return
    if spread.place == "both" and way.layered is not None:
        for algorithm, model in way.layered.either().items():
            yield algorithm, partial(model, spread.ranks, spread.nodes)
    elif (found := way.model(spread.place)) is not None:
        yield found.algorithm, partial(found.time_s, spread.ranks)
