"""Model FLOPs utilization and the roofline on the page: a table, and a figure where any cell has one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.roofline import NO_MODEL, Roofline
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Series, Table

ROOFLINE_TITLE = "Model FLOPs utilization and roofline"
ROOF_MARGIN = 3.0
"""How far, as a factor of the intensity, the roof reaches beyond the cells and its ridge."""


def roofline_table(cells: Sequence[Cell]) -> Table:
    rows = []
    for cell in cells:
        found = cell.roofline
        if found is None:
            if cell.throughput is not None and cell.roofline_reason != NO_MODEL:
                rows.append((cell.labels.title, f"unknown: {cell.roofline_reason}", *("–",) * 9))
            continue
        rows.append(
            (
                cell.labels.title,
                _utilization(found.mfu),
                _utilization(found.own_mfu),
                _with_prefix(found.flops, "FLOP"),
                _with_prefix(found.bytes_moved, "B"),
                formatting.number(found.intensity),
                _with_prefix(found.peak_flop_s, "FLOP/s"),
                _with_prefix(found.peak_bytes_s, "B/s"),
                _with_prefix(found.attainable_flop_s, "FLOP/s"),
                found.bound,
                _utilization(found.reached_share),
            )
        )
    header = (
        "cell",
        "MFU (95 %)",
        "MFU of own time",
        "FLOPs a step",
        "bytes a step",
        "FLOPs a byte",
        "peak",
        "copy bandwidth",
        "attainable",
        "bound",
        "reached of attainable",
    )
    return Table(ROOFLINE_TITLE, header, tuple(rows), _note(cells))


def _note(cells: Sequence[Cell]) -> str:
    measured = dict.fromkeys(cell.roofline.how for cell in cells if cell.roofline)
    return (
        "All ranks together. FLOPs: of matrix products, convolutions and attention in one step, forward and backward, "
        "two a multiply-add. Bytes: what the operations of forward, backward and optimizer read and write, as if there "
        "were no cache: an upper bound. Peak and copy bandwidth: measured in the same ranks after everything that is "
        f"timed{': ' if measured else ''}{'; '.join(measured)}. MFU = FLOPs ÷ (step × peak), the step as in the timed "
        "window; MFU of own time leaves out waiting and exposed communication. Attainable = min(peak, FLOPs a byte × "
        "copy bandwidth); bound: which of the two it is. Above 100 % of it, caches served what the count takes for "
        "traffic. Intervals are over trials and do not hold the error of the peak, which one trial measured."
    )


def roofline_figures(cells: Sequence[Cell]) -> tuple[Figure, ...]:
    """Every cell under the roof of its rank count, all of one rank: the mean of the cell's ranks."""
    shown = [(cell, cell.roofline) for cell in cells if cell.roofline is not None]
    if not shown:
        return ()
    names = tuple(dict.fromkeys(cell.labels.backend for cell, _ in shown))
    dots = tuple(_cell_points(name, number, shown) for number, name in enumerate(names))
    roofs = tuple(
        _roof_series(ranks, len(names) + number, shown)
        for number, ranks in enumerate(sorted({cell.case.ranks for cell, _ in shown}))
    )
    rows = tuple(
        (
            cell.labels.title,
            formatting.number(found.intensity),
            *(
                _with_prefix(value / cell.case.ranks, "FLOP/s")
                for value in (found.reached_flop_s.value, found.attainable_flop_s, found.peak_flop_s)
            ),
        )
        for cell, found in shown
    )
    table = Table("Roofline, FLOP/s of one rank", ("cell", "FLOPs a byte", "reached", "attainable", "peak"), rows)
    return (
        Figure(
            "roofline",
            "Roofline",
            "arithmetic intensity (FLOPs a byte)",
            "FLOP/s of one rank",
            (*roofs, *dots),
            _sentence(shown),
            table,
            log_x=True,
            log_y=True,
            wide=True,
        ),
    )


def _cell_points(name: str, style: int, shown: Sequence[tuple[Cell, Roofline]]) -> Series:
    own_cells = [(cell, found) for cell, found in shown if cell.labels.backend == name]
    reached = [(found.reached_flop_s, cell.case.ranks) for cell, found in own_cells]
    return Series(
        name,
        tuple(found.intensity for _, found in own_cells),
        tuple(rate.value / ranks for rate, ranks in reached),
        tuple(None if rate.low is None else rate.low / ranks for rate, ranks in reached),
        tuple(None if rate.high is None else rate.high / ranks for rate, ranks in reached),
        style,
        tuple("oversubscribed" in cell.flags for cell, _ in own_cells),
        look="markers",
    )


def _roof_series(ranks: int, style: int, shown: Sequence[tuple[Cell, Roofline]]) -> Series:
    """The median over the cells of this rank count: each measured its own."""
    own_cells = [found for cell, found in shown if cell.case.ranks == ranks]
    flop_s = median(found.peak_flop_s for found in own_cells) / ranks
    bytes_s = median(found.peak_bytes_s for found in own_cells) / ranks
    ridge = flop_s / bytes_s
    intensities = [ridge, *(found.intensity for _, found in shown)]
    x = (min(intensities) / ROOF_MARGIN, ridge, max(intensities) * ROOF_MARGIN)
    y = tuple(min(flop_s, bytes_s * intensity) for intensity in x)
    return Series(f"roof, {formatting.ranks(ranks)}", x, y, (None,) * 3, (None,) * 3, style, (False,) * 3, look="line")


def _sentence(shown: Sequence[tuple[Cell, Roofline]]) -> str:
    best, best_roofline = max(shown, key=lambda one: one[1].mfu.value)
    memory = sum(found.bound == "memory" for _, found in shown)
    return (
        f"The highest model FLOPs utilization is {_utilization(best_roofline.mfu)}, "
        f"of {best.labels.title}. "
        f"Under the slope, where memory would bound a step if there were no cache: {memory} of {len(shown)} cells."
    )


def _with_prefix(value: float, unit: str) -> str:
    """``101 GFLOP/s``"""
    digits = formatting.number(value).rstrip("kMGT")
    return f"{digits} {formatting.number(value).removeprefix(digits)}{unit}"


def _utilization(found: Estimate | None) -> str:
    """``61.8 % (58.3–65.5)``, ``0.056 %``: a small model's share is far below one per cent."""
    if found is None:
        return "–"
    span = ""
    if found.low is not None and found.high is not None:
        span = f" ({formatting.number(100 * found.low)}–{formatting.number(100 * found.high)})"
    return f"{formatting.number(100 * found.value)} %{span}"
