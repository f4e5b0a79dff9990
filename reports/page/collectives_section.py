"""Collective operations beside each other: a figure, a table of all sizes, and a short one for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.core.collectives import COLLECTIVES
from reports.analysis import formatting
from reports.analysis.cell_details import MessageCell
from reports.analysis.cells import Cell
from reports.page.elements import Figure, Section, Table
from reports.page.palette import OPERATION_COLOURS, meaning_style
from reports.page.series import estimate_series

WORKLOAD = "collectives"
TITLE = "Collective operations"
NOTE = (
    "Sizes and bandwidths as in nccl-tests: of all_gather and reduce_scatter the size is that of the whole, of "
    "all_to_all what each rank sends in all. Time: of the slowest rank, the median of a trial's repetitions; intervals "
    "over trials."
)
PLACES = {True: "in place", False: "out of place", None: "–"}


def sections(cells: Sequence[Cell]) -> Iterator[Section]:
    """One section where the sweep holds collective operations; none else."""
    shown = _shown(cells)
    if not shown:
        return
    yield Section(TITLE, figures=_figures(shown), tables=(collectives_table(shown),))


def collectives_table(cells: Sequence[Cell]) -> Table:
    """One row for each operation, backend, rank count and size."""
    header = (
        "operation",
        "backend",
        "ranks",
        "result",
        "message",
        "time (95 %)",
        "algorithm bandwidth",
        "bus bandwidth",
    )
    rows = tuple(
        (
            _operation(cell),
            cell.labels.backend,
            cell.labels.rank_count,
            PLACES[message.in_place],
            formatting.message_size(message.message_bytes),
            formatting.duration_estimate(message.time_s),
            formatting.estimate(message.algorithm_bandwidth),
            formatting.estimate(message.bus_bandwidth),
        )
        for cell in _shown(cells)
        for message in cell.messages
    )
    return Table(TITLE, header, rows, NOTE)


def summary_table(cells: Sequence[Cell]) -> Table:
    """One row for each operation, backend and rank count: its smallest and its largest message."""
    header = (
        "operation",
        "backend",
        "ranks",
        "smallest message",
        "time (95 %)",
        "largest message",
        "algorithm bandwidth (95 %)",
        "bus bandwidth (95 %)",
    )
    rows = tuple(
        (
            _operation(cell),
            cell.labels.backend,
            cell.labels.rank_count,
            formatting.message_size(smallest.message_bytes),
            formatting.duration_estimate(smallest.time_s),
            formatting.message_size(largest.message_bytes),
            formatting.estimate(largest.algorithm_bandwidth),
            formatting.estimate(largest.bus_bandwidth),
        )
        for cell in _shown(cells)
        for smallest, largest in [_ends(cell)]
    )
    return Table(TITLE, header, rows)


def _shown(cells: Sequence[Cell]) -> list[Cell]:
    measured = [cell for cell in cells if cell.case.workload == WORKLOAD and cell.messages]
    return sorted(measured, key=lambda cell: (_order(cell), cell.labels.backend, cell.case.ranks))


def _order(cell: Cell) -> int:
    return COLLECTIVES.index(cell.messages[0].operation)


def _operation(cell: Cell) -> str:
    """``all_gather``; ``all_gather, in place, float16`` where the case says so."""
    options = cell.case.workload_options
    place = {True: "in place", False: "out of place"}.get(bool(options["in_place"])) if "in_place" in options else None
    parts = [cell.messages[0].operation, place, options.get("datatype")]
    return ", ".join(str(part) for part in parts if part)


def _ends(cell: Cell) -> tuple[MessageCell, MessageCell]:
    ordered = sorted(cell.messages, key=lambda message: message.message_bytes)
    return ordered[0], ordered[-1]


def _numbered(cells: Sequence[Cell]) -> Iterator[tuple[int, Cell]]:
    """Each cell with its number among those of the same operation."""
    counts: Counter[str] = Counter()
    for cell in cells:
        operation = cell.messages[0].operation
        yield counts[operation], cell
        counts[operation] += 1


def _figures(cells: Sequence[Cell]) -> tuple[Figure, ...]:
    """Bus bandwidth over message size at the most ranks, a series for each operation and backend."""
    operations = list(dict.fromkeys(map(_operation, cells)))
    if len(operations) == 1:
        return ()
    ranks = max(cell.case.ranks for cell in cells)
    series = tuple(
        estimate_series(
            f"{_operation(cell)} · {cell.labels.backend}",
            [float(message.message_bytes) for message in cell.messages],
            [message.bus_bandwidth for message in cell.messages],
            meaning_style(OPERATION_COLOURS, cell.messages[0].operation).variant(number),
        )
        for number, cell in _numbered([cell for cell in cells if cell.case.ranks == ranks])
    )
    best = max(
        (cell for cell in cells if cell.case.ranks == ranks), key=lambda cell: _ends(cell)[1].bus_bandwidth.value
    )
    largest = _ends(best)[1]
    caption = (
        f"At {formatting.ranks(ranks)} the largest message of {formatting.message_size(largest.message_bytes)} has its "
        f"highest bus bandwidth, {formatting.estimate(largest.bus_bandwidth)}, in {_operation(best)} under "
        f"{best.labels.backend}."
    )
    figure = Figure(
        "collectives-bandwidth",
        "Bus bandwidth by operation",
        "message (bytes)",
        "bus bandwidth (B/s)",
        series,
        caption,
        collectives_table(cells),
        log_x=True,
        log_y=True,
    )
    return (figure,)
