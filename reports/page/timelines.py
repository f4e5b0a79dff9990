"""What hosts and GPUs did over time, around the measured window: timelines with a line for each backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup
from reports.analysis.timeline import TIMELINE_QUANTITIES, Timeline
from reports.page.elements import Figure, Section, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import cell_title, point_series

HOST_TITLES = {
    "job_cpu": ("Cores busy with the job", "cores"),
    "network": ("Network", "network (B/s)"),
    "loopback": ("Loopback", "loopback (B/s)"),
}
"""The quantities of hosts, with the titles of their figures and axes."""
GPU_TITLES = {
    "gpu_power": ("GPU power", "power (W)"),
    "gpu_sm_clock": ("SM clock", "clock (Hz)"),
    "gpu_memory": ("GPU memory", "memory (B)"),
}
"""Those of GPUs that have a figure with a line for each backend."""
FROM_ONE_TRIAL = "Each backend at its largest rank count, from one trial: the last that was sampled."
SINCE_WINDOW = "time since the window began (s)"
"""The title of every axis of time."""
MAX_SERIES = 8
SAME_WINDOW_RATIO = 1.05
"""Windows whose lengths differ by less look the same."""


@dataclass(frozen=True)
class DeviceTimeline:
    """A timeline with its name in the figure; ``of``: its backend and ranks alone."""

    name: str
    of: str
    style: SeriesStyle
    position: int
    """Of its device among those of its cell."""
    timeline: Timeline
    unknown: str = ""
    """Why its reading is unknown though there are samples: the window was too short for it, for instance."""


def host_section(key: str, group: CellGroup, styles: Mapping[str, SeriesStyle]) -> Section | None:
    """The timelines of hosts, folded; ``None`` where nothing was sampled: the usage table has the reason."""
    shown = (timeline_figure(key, name, group.cells, styles) for name in HOST_TITLES)
    figures = tuple(figure for figure in shown if figure is not None)
    return Section(f"{group.title}: hosts over time", FROM_ONE_TRIAL, figures, folded=True) if figures else None


def timeline_figure(key: str, name: str, cells: Sequence[Cell], styles: Mapping[str, SeriesStyle]) -> Figure | None:
    """A quantity that stayed at 0 has no figure; it is in the usage table."""
    lines = tuple(device_timelines(name, cells, styles))
    if not any(line.timeline.most for line in lines):
        return None
    title, y_title = (HOST_TITLES | GPU_TITLES)[name]
    drawn = _limit_series(lines)
    return Figure(
        f"{key}-over-time-{name.replace('_', '-')}",
        title,
        SINCE_WINDOW,
        y_title,
        tuple(_timeline_series(line) for line in drawn),
        _timeline_caption(lines, drawn),
        _timeline_table(title, lines),
        percent=TIMELINE_QUANTITIES[name].unit == "1",
        window=(0.0, max(line.timeline.window_s for line in drawn)),
    )


def device_timelines(name: str, cells: Sequence[Cell], styles: Mapping[str, SeriesStyle]) -> Iterator[DeviceTimeline]:
    """For each backend the timelines of its largest sampled rank count."""
    for backend in dict.fromkeys(cell.labels.backend for cell in cells):
        sampled = [
            (cell, timelines)
            for cell in cells
            if cell.labels.backend == backend
            and (timelines := [timeline for timeline in cell.timelines if timeline.name == name])
        ]
        if not sampled:
            continue
        cell, timelines = max(sampled, key=lambda pair: pair[0].case.ranks)
        unknown = unknown_reason(cell, name)
        for position, timeline in enumerate(timelines):
            of = cell_title(cell, cells)
            title = f"{of} · {timeline.device}" if len(timelines) > 1 else of
            # All devices have their backend's colour.
            yield DeviceTimeline(title, of, styles[backend].variant(position), position, timeline, unknown)


def unknown_reason(cell: Cell, name: str) -> str:
    """Why a reading of a cell is unknown; empty where it is known, or is none of its usage."""
    reading = next((reading for reading in cell.usage if reading.name == name), None)
    return (reading.reason or "") if reading is not None and reading.estimate is None else ""


def _limit_series(lines: Sequence[DeviceTimeline]) -> list[DeviceTimeline]:
    """At most :data:`MAX_SERIES`, taking the devices of the backends in turn."""
    return sorted(lines, key=lambda line: line.position)[:MAX_SERIES]


def _timeline_series(line: DeviceTimeline) -> Series:
    timeline = line.timeline
    return point_series(line.name, timeline.times_s, timeline.values, line.style, "line")


def _timeline_caption(lines: Sequence[DeviceTimeline], drawn: Sequence[DeviceTimeline]) -> str:
    by_cell: dict[str, list[DeviceTimeline]] = {}
    for line in lines:
        by_cell.setdefault(line.of, []).append(line)
    summaries = "; ".join(f"{of}: {_window_summary(of_cell)}" for of, of_cell in by_cell.items())
    more = f" {len(lines) - len(drawn)} further lines are in the table only." if len(lines) > len(drawn) else ""
    gaps = gaps_text({line.name: line.timeline for line in drawn})
    shaded = shaded_text([line.timeline.window_s for line in drawn])
    return f"Mean and range in the window: {summaries}. {shaded}{gaps}{more}"


def shaded_text(windows_s: Sequence[float]) -> str:
    """Which window is shaded, as a sentence."""
    which = "measured window" if max(windows_s) <= SAME_WINDOW_RATIO * min(windows_s) else "longest measured window"
    return f"The {which}, {formatting.number(max(windows_s))} s, is shaded."


def gaps_text(timelines: Mapping[str, Timeline]) -> str:
    """How long which line is unknown, and why, as a further sentence; empty where no line has a gap."""
    names_by_gap: dict[str, list[str]] = {}
    for name, timeline in timelines.items():
        if timeline.unknown_s > 0:
            why = timeline.unknown_reason or "no samples"
            gap = f"unknown for {formatting.number(timeline.unknown_s)} s of its window ({why})"
            names_by_gap.setdefault(gap, []).append(name)
    gaps = "; ".join(f"{', '.join(names)}: {gap}" for gap, names in names_by_gap.items())
    return f" A line has a gap where nothing is known — {gaps}." if gaps else ""


def _window_summary(lines: Sequence[DeviceTimeline]) -> str:
    """The mean and range over all devices of a cell."""
    if unknown := lines[0].unknown:
        return f"unknown ({unknown})"
    timelines = [line.timeline for line in lines]
    mean = fmean(timeline.mean for timeline in timelines)
    least, most = min(timeline.least for timeline in timelines), max(timeline.most for timeline in timelines)
    devices = f" over {len(timelines)} devices" if len(timelines) > 1 else ""
    return f"{formatting.with_range(mean, least, most, timelines[0].unit)}{devices}"


TABLE_HEADER = ("device", "window", "samples in it", "mean", "lowest", "highest", "unknown")


def table_columns(timeline: Timeline, unknown: str) -> tuple[str, ...]:
    """The columns of :data:`TABLE_HEADER`."""
    numbers = (timeline.mean, timeline.least, timeline.most)
    mean, least, most = (formatting.quantity(value, timeline.unit) for value in numbers)
    return (
        timeline.device,
        f"{formatting.number(timeline.window_s)} s",
        str(timeline.samples),
        f"unknown ({unknown})" if unknown else mean,
        least,
        most,
        f"{formatting.number(timeline.unknown_s)} s" if timeline.unknown_s else "–",
    )


def _timeline_table(title: str, lines: Sequence[DeviceTimeline]) -> Table:
    rows = tuple((line.of, *table_columns(line.timeline, line.unknown)) for line in lines)
    header = ("backend, ranks", *TABLE_HEADER)
    note = "From one trial each. Counters (processor time, bytes) are shown as their growth between two samples."
    return Table(f"{title} over time", header, rows, note)
