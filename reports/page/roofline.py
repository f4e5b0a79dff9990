"""Model FLOPs utilization and the roofline on the page: a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bench.core.step_measures import PrecisionPeak
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.flags import claim_problem
from reports.analysis.roofline import NO_MODEL, Roofline
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Series, Table
from reports.page.palette import SeriesStyle, neutral_style
from reports.page.series import interval_series, point_series

ROOFLINE_TITLE = "Model FLOPs utilization and roofline"
ROOF_MARGIN = 3.0
"""The factor of the intensity by which the roof extends beyond the cells and its ridge."""


def roofline_table(cells: Sequence[Cell]) -> Table:
    """One row for each training cell whose roofline is known, then one for each reason why others are unknown."""
    rows: list[tuple[str, ...]] = []
    titles_by_reason: dict[str, list[str]] = {}
    for cell in cells:
        roofline = cell.roofline
        if roofline is None:
            if cell.throughput is not None and cell.roofline_reason != NO_MODEL:
                titles_by_reason.setdefault(cell.roofline_reason or "unknown", []).append(cell.labels.title)
            continue
        rows.append(
            (
                cell.labels.title,
                _utilization(roofline.mfu),
                _utilization(roofline.hfu),
                _utilization(roofline.own_mfu),
                formatting.quantity(roofline.flops, "FLOP"),
                formatting.quantity(roofline.bytes_moved, "B"),
                formatting.number(roofline.intensity),
                roofline.dtype,
                formatting.quantity(roofline.peak_flop_s, "FLOP/s"),
                formatting.quantity(roofline.peak_bytes_s, "B/s"),
                formatting.quantity(roofline.attainable_flop_s, "FLOP/s"),
                roofline.bound,
                _utilization(roofline.reached_share),
            )
        )
    for reason, titles in titles_by_reason.items():
        which = titles[0] if len(titles) == 1 else f"{len(titles)} cells"
        rows.append((which, f"unknown: {reason}", *("–",) * 11))
    header = (
        "cell",
        "MFU (95 %)",
        "HFU",
        "MFU of compute",
        "FLOPs per step",
        "bytes per step",
        "FLOPs per byte",
        "type",
        "peak",
        "copy bandwidth",
        "attainable",
        "bound",
        "reached share of attainable",
    )
    return Table(ROOFLINE_TITLE, header, tuple(rows), _note(cells))


PEAKS_TITLE = "Peaks of the GPUs by type"


def peaks_table(cells: Sequence[Cell]) -> Table:
    """What the GPUs reach in each type, one row for each; empty where CPUs computed.

    Cells at the same rank count ran on the same devices: the first of them that measured a type stands for all.
    """
    rows: dict[tuple[int, str], tuple[str, ...]] = {}
    for cell in cells:
        roofline = cell.roofline
        if roofline is None or not roofline.precisions:
            continue
        own = PrecisionPeak(dtype=roofline.dtype, flop_s=roofline.peak_flop_s)
        measured = {peak.dtype: peak for peak in (own, *roofline.precisions)}
        reference = measured["float32"].flop_s if "float32" in measured else None
        for dtype, peak in measured.items():
            rows.setdefault(
                (cell.case.ranks, dtype),
                (
                    cell.labels.ranks,
                    dtype,
                    formatting.quantity(peak.flop_s, "FLOP/s") if peak.flop_s else f"unknown: {peak.reason}",
                    f"{formatting.number(peak.flop_s / reference)}×" if peak.flop_s and reference else "–",
                    *(_limits(roofline) if peak is own else ("–", "–")),
                ),
            )
    header = ("ranks", "type", "peak", "÷ float32", "SM clock under load", "power limit")
    note = (
        "All ranks together, products of random matrices. Clock and power limit: of the slowest GPU, while it "
        "multiplied in the type of the steps."
    )
    return Table(PEAKS_TITLE, header, tuple(row for _, row in sorted(rows.items())), note)


def _limits(roofline: Roofline) -> tuple[str, str]:
    unknown = f"unknown: {roofline.limits_reason}"
    return (
        unknown if roofline.clock_hz is None else formatting.quantity(roofline.clock_hz, "Hz"),
        unknown if roofline.power_cap_w is None else formatting.quantity(roofline.power_cap_w, "W"),
    )


def _note(cells: Sequence[Cell]) -> str:
    measured = dict.fromkeys(cell.roofline.how for cell in cells if cell.roofline)
    return (
        "All ranks together. FLOPs: of matrix products, convolutions and attention in one step, forward and backward, "
        "two for a multiply-add. Bytes: what the operations of forward, backward and optimizer read and write without "
        "caches, an upper bound. Peak and copy bandwidth: measured in the same ranks after everything that is "
        f"timed{': ' if measured else ''}{'; '.join(measured)}. MFU = FLOPs ÷ (step × peak), the step as in the timed "
        "window, the peak in the type of the step's products; HFU counts activations that the backward pass computes "
        "again as well; MFU of compute leaves out waiting and exposed communication. Attainable = min(peak, FLOPs per "
        "byte × copy bandwidth); bound: which of the two limits. Above 100 % of it, caches served counted bytes. "
        "Intervals are over trials and do not include the error of the peak, which one trial measured."
    )


def roofline_figures(cells: Sequence[Cell], styles: Mapping[str, SeriesStyle]) -> tuple[Figure, ...]:
    """Every cell under the roof of its rank count, as FLOP/s of one rank: the mean over the cell's ranks."""
    shown = [(cell, cell.roofline) for cell in cells if cell.roofline is not None]
    if not shown:
        return ()
    names = tuple(dict.fromkeys(cell.labels.backend for cell, _ in shown))
    dots = tuple(_cell_points(name, styles[name], shown) for name in names)
    roofs = tuple(
        _roof_series(ranks, neutral_style(number), shown)
        for number, ranks in enumerate(sorted({cell.case.ranks for cell, _ in shown}))
    )
    rows = tuple(
        (
            cell.labels.title,
            formatting.number(roofline.intensity),
            *(
                formatting.quantity(value / cell.case.ranks, "FLOP/s")
                for value in (roofline.reached_flop_s.value, roofline.attainable_flop_s, roofline.peak_flop_s)
            ),
        )
        for cell, roofline in shown
    )
    table = Table("Roofline, FLOP/s of one rank", ("cell", "FLOPs per byte", "reached", "attainable", "peak"), rows)
    return (
        Figure(
            "roofline",
            "Roofline",
            "arithmetic intensity (FLOPs per byte)",
            "FLOP/s of one rank",
            (*roofs, *dots),
            _caption(shown),
            table,
            log_x=True,
            log_y=True,
            wide=True,
        ),
    )


def _cell_points(name: str, style: SeriesStyle, shown: Sequence[tuple[Cell, Roofline]]) -> Series:
    own_cells = [(cell, roofline) for cell, roofline in shown if cell.labels.backend == name]
    points = [
        (roofline.intensity, *_per_rank(roofline.reached_flop_s, cell.case.ranks)) for cell, roofline in own_cells
    ]
    hollow = [claim_problem(cell.flags) is not None for cell, _ in own_cells]
    return interval_series(name, points, style, "markers", hollow)


def _per_rank(rate: Estimate, ranks: int) -> tuple[float, float | None, float | None]:
    """A rate of all ranks and the ends of its interval, as shares of one rank."""
    low, high = (None if end is None else end / ranks for end in (rate.low, rate.high))
    return rate.value / ranks, low, high


def _roof_series(ranks: int, style: SeriesStyle, shown: Sequence[tuple[Cell, Roofline]]) -> Series:
    """The roof of a rank count: the median of the peaks that its cells measured."""
    own_cells = [roofline for cell, roofline in shown if cell.case.ranks == ranks]
    flop_s = median(roofline.peak_flop_s for roofline in own_cells) / ranks
    bytes_s = median(roofline.peak_bytes_s for roofline in own_cells) / ranks
    ridge = flop_s / bytes_s
    intensities = [ridge, *(roofline.intensity for _, roofline in shown)]
    x = (min(intensities) / ROOF_MARGIN, ridge, max(intensities) * ROOF_MARGIN)
    y = tuple(min(flop_s, bytes_s * intensity) for intensity in x)
    return point_series(f"roof, {formatting.ranks(ranks)}", x, y, style, "line")


def _caption(shown: Sequence[tuple[Cell, Roofline]]) -> str:
    best, best_roofline = max(shown, key=lambda pair: pair[1].mfu.value)
    memory = sum(roofline.bound == "memory" for _, roofline in shown)
    return (
        f"The highest model FLOPs utilization is {_utilization(best_roofline.mfu)}, "
        f"of {best.labels.title}. "
        f"Memory-bound, without caches: {memory} of {len(shown)} cells."
    )


def _utilization(value: Estimate | None) -> str:
    """``61.8 % (58.3–65.5 %)``; ``0.056 %``, as small models reach."""
    if value is None:
        return "–"
    span = ""
    if value.low is not None and value.high is not None:
        span = f" ({formatting.number(100 * value.low)}–{formatting.number(100 * value.high)} %)"
    return f"{formatting.number(100 * value.value)} %{span}"
