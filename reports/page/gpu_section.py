"""The GPUs of a workload over time: what their units did, one small figure for each backend, and power and clock.

The figures of the units have the same axes, so that backends are compared by eye.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup
from reports.analysis.timeline import Timeline
from reports.page.elements import Figure, Section, Table
from reports.page.palette import GPU_COLOURS, SeriesStyle, meaning_style
from reports.page.series import cell_title, point_series
from reports.page.timelines import (
    FROM_ONE_TRIAL,
    GPU_TITLES,
    SINCE_WINDOW,
    TABLE_HEADER,
    gaps_text,
    shaded_text,
    table_columns,
    timeline_figure,
    unknown_reason,
)

UNIT_TITLES = {
    "gpu_utilization": "busy",
    "gpu_sm_activity": "SM activity",
    "gpu_tensor_activity": "tensor activity",
    "gpu_dram_activity": "memory activity",
}
"""The quantities that are shares of time or of a bandwidth."""
MEANINGS = (
    "Busy: the share of time in which a kernel ran, however small. SM activity: the share of the multiprocessors that "
    "had work. Tensor activity: the share of time in which tensor cores computed. Memory activity: of its bandwidth."
)
HELD_BACK = ("gpu_power", "gpu_sm_clock")
"""The quantities that a power limit holds back."""
MAX_ACTIVITY_FIGURES = 8


def gpu_section(key: str, group: CellGroup, styles: Mapping[str, SeriesStyle]) -> Section | None:
    """The section of a group; ``None`` where no GPU was sampled, folded where none was computed on."""
    figures = (*_activity_figures(key, group.cells), *_shared_figures(key, group.cells, styles))
    if not figures:
        return None
    unused = all(cell.case.device == "cpu" and cell.case.telemetry == "always" for cell in group.cells)
    return Section(f"{group.title}: GPUs over time", f"{FROM_ONE_TRIAL} {MEANINGS}", figures, folded=unused)


def _shared_figures(key: str, cells: Sequence[Cell], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """Power, clock and memory, with a line for each backend."""
    for name in GPU_TITLES:
        figure = timeline_figure(key, name, cells, styles)
        if figure is not None:
            limit = _power_limit_text(cells) if name in HELD_BACK else ""
            yield replace(figure, caption=f"{figure.caption}{limit}")


def _power_limit_text(cells: Sequence[Cell]) -> str:
    """How long the GPUs of which cell were held back, as a further sentence; empty where none was."""
    shares = {
        cell_title(cell, cells): reading.estimate
        for cell in cells
        for reading in cell.usage
        if reading.name == "gpu_power_capped" and reading.estimate and reading.estimate.value > 0
    }
    capped = "; ".join(f"{title}: {formatting.percent(share)}" for title, share in shares.items())
    return f" At the power limit — {capped} of the window." if capped else ""


def _activity_figures(key: str, cells: Sequence[Cell]) -> Iterator[Figure]:
    sampled = [cell for cell in cells if any(timeline.name in UNIT_TITLES for timeline in cell.timelines)]
    largest = {cell.labels.backend: cell for cell in sorted(sampled, key=lambda cell: cell.case.ranks)}
    shown = sorted(largest.values(), key=sampled.index)
    for number, cell in enumerate(shown[:MAX_ACTIVITY_FIGURES]):
        omitted = len(shown) - MAX_ACTIVITY_FIGURES if number == 0 else 0
        yield _activity_figure(f"{key}-gpu-{number}", cell_title(cell, cells), cell, omitted)


def _activity_figure(key: str, title: str, cell: Cell, omitted: int) -> Figure:
    """Of the GPU that was used least, where the cell has several; the table has all of them.

    Args:
        key: Of the figure.
        title: Of the cell.
        cell: Whose GPUs were sampled.
        omitted: The number of backends that have no figure.
    """
    timelines = [timeline for timeline in cell.timelines if timeline.name in UNIT_TITLES]
    devices = list(dict.fromkeys(timeline.device for timeline in timelines))
    device = min(devices, key=lambda name: _use(timelines, name))
    drawn = {UNIT_TITLES[own.name]: own for own in timelines if own.device == device}
    which = f" Shown is {device}, which was used least of {len(devices)}." if len(devices) > 1 else ""
    more = f" {omitted} further backends are in the table of all cells only." if omitted > 0 else ""
    rows = tuple(
        (UNIT_TITLES[timeline.name], *table_columns(timeline, unknown_reason(cell, timeline.name)))
        for timeline in timelines
    )
    return Figure(
        key,
        f"Use of the GPU: {title}",
        SINCE_WINDOW,
        "share",
        tuple(
            point_series(UNIT_TITLES[own.name], own.times_s, own.values, meaning_style(GPU_COLOURS, own.name), "line")
            for own in drawn.values()
        ),
        f"{_means_text(cell)} {shaded_text([own.window_s for own in drawn.values()])}{gaps_text(drawn)}{which}{more}",
        Table(f"Use of the GPU over time: {title}", ("what", *TABLE_HEADER), rows),
        percent=True,
        window=(0.0, max(own.window_s for own in drawn.values())),
        y_end=1.0,
    )


def _use(timelines: Sequence[Timeline], device: str) -> float:
    """The mean activity of its multiprocessors; where that was not sampled, the share of time that it was busy."""
    means = {timeline.name: timeline.mean for timeline in timelines if timeline.device == device}
    return means.get("gpu_sm_activity", means.get("gpu_utilization", 0.0))


def _means_text(cell: Cell) -> str:
    """The means over the window and the trials, and why others are unknown."""
    estimates = {reading.name: reading.estimate for reading in cell.usage}
    known = [
        f"{title} {formatting.quantity(value.value, value.unit)}"
        for name, title in UNIT_TITLES.items()
        if (value := estimates.get(name)) is not None
    ]
    titles_by_reason: dict[str, list[str]] = {}
    for name, title in UNIT_TITLES.items():
        if reason := unknown_reason(cell, name):
            titles_by_reason.setdefault(reason, []).append(title)
    unknown = "; ".join(f"{', '.join(titles)}: {reason}" for reason, titles in titles_by_reason.items())
    means = f"Means over the window and the trials: {', '.join(known)}." if known else ""
    return f"{means} {f'Unknown — {unknown}.' if unknown else ''}".strip()
