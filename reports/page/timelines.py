"""What hosts and GPUs did over time, with the measured window shaded: a figure for each quantity that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reports.analysis import case_titles, formatting
from reports.analysis.cells import Cell
from reports.analysis.timeline import TIMELINE_QUANTITIES, Timeline
from reports.page.elements import Figure, Section, Series, Table

QUANTITY_TITLES = {
    "job_cpu": ("Cores busy with the job", "cores"),
    "network": ("Network", "network (B/s)"),
    "loopback": ("Loopback", "loopback (B/s)"),
    "gpu_utilization": ("GPU utilization", "utilization"),
    "gpu_power": ("GPU power", "power (W)"),
    "gpu_memory": ("GPU memory", "memory (B)"),
}
MAX_SERIES = 8
SAME_WINDOW_RATIO = 1.05
"""Windows whose lengths differ by less are one window to the eye."""


@dataclass(frozen=True)
class DeviceTimeline:
    """A timeline under the name it has in the figure; ``of``: its backend and ranks alone."""

    name: str
    of: str
    style: int
    timeline: Timeline


def timeline_section(key: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Section | None:
    """Folded; ``None`` where nothing is known, for which the table of usage has the reason."""
    figures = tuple(figure for name in TIMELINE_QUANTITIES if (figure := _figure(key, name, cells, styles)) is not None)
    if not figures:
        return None
    subtitle = "Of each backend its largest rank count, and of that one trial: the last that was sampled."
    return Section(f"{case_titles.group_title(cells)}: over time", subtitle, figures, folded=True)


def _figure(key: str, name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Figure | None:
    """A quantity that stayed at 0 has no figure: the table of usage has its 0."""
    lines = tuple(_device_timelines(name, cells, styles))
    if not any(line.timeline.most for line in lines):
        return None
    title, y_title = QUANTITY_TITLES[name]
    drawn = _limit_series(lines)
    return Figure(
        f"{key}-over-time-{name.replace('_', '-')}",
        title,
        "seconds since the window began",
        y_title,
        tuple(_series(line) for line in drawn),
        _sentence(lines, drawn),
        _table(title, lines),
        percent=TIMELINE_QUANTITIES[name].unit == "1",
        window=(0.0, max(line.timeline.window_s for line in drawn)),
    )


def _device_timelines(name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Iterator[DeviceTimeline]:
    """Of each backend those of the largest rank count that was sampled."""
    for backend in dict.fromkeys(case_titles.backend_title(cell.case) for cell in cells):
        sampled = [
            (cell, found)
            for cell in cells
            if case_titles.backend_title(cell.case) == backend
            and (found := [timeline for timeline in cell.timelines if timeline.name == name])
        ]
        if not sampled:
            continue
        cell, found = max(sampled, key=lambda one: one[0].case.ranks)
        for position, timeline in enumerate(found):
            of = f"{backend}, {case_titles.ranks_on_nodes(cell.case)}"
            title = f"{of} · {timeline.device}" if len(found) > 1 else of
            # The first device looks like its backend everywhere else; the further ones like no other backend.
            yield DeviceTimeline(title, of, styles[backend] + position * len(styles), timeline)


def _limit_series(lines: Sequence[DeviceTimeline]) -> list[DeviceTimeline]:
    """At most :data:`MAX_SERIES`, by turns the next device of each backend."""
    return sorted(lines, key=lambda line: line.style)[:MAX_SERIES]


def _series(line: DeviceTimeline) -> Series:
    found = line.timeline
    unknown = (None,) * len(found.times_s)
    return Series(
        line.name, found.times_s, found.values, unknown, unknown, line.style, (False,) * len(unknown), look="line"
    )


def _sentence(lines: Sequence[DeviceTimeline], drawn: Sequence[DeviceTimeline]) -> str:
    by_cell: dict[str, list[Timeline]] = {}
    for line in lines:
        by_cell.setdefault(line.of, []).append(line.timeline)
    summaries = "; ".join(f"{of}: {_window_summary(found)}" for of, found in by_cell.items())
    windows = [line.timeline.window_s for line in drawn]
    shaded = "measured window" if max(windows) <= SAME_WINDOW_RATIO * min(windows) else "longest measured window"
    more = f" {len(lines) - len(drawn)} further lines are in the table alone." if len(lines) > len(drawn) else ""
    return (
        f"Mean and range in the window: {summaries}. The {shaded}, "
        f"{formatting.number(max(windows))} s, is shaded.{more}"
    )


def _window_summary(found: Sequence[Timeline]) -> str:
    """Of all devices of a cell together."""
    mean = fmean(one.mean for one in found)
    least, most = min(one.least for one in found), max(one.most for one in found)
    devices = f" over {len(found)} devices" if len(found) > 1 else ""
    return f"{formatting.with_range(mean, least, most, found[0].unit)}{devices}"


def _table(title: str, lines: Sequence[DeviceTimeline]) -> Table:
    rows = tuple(
        (
            line.of,
            found.device,
            f"{formatting.number(found.window_s)} s",
            str(found.samples),
            *(formatting.quantity(value, found.unit) for value in (found.mean, found.least, found.most)),
        )
        for line in lines
        for found in (line.timeline,)
    )
    header = ("backend, ranks", "device", "window", "samples in it", "mean", "lowest", "highest")
    note = "Of one trial each. What is counted (processor time, bytes) is shown as its growth between two samples."
    return Table(f"{title} over time", header, rows, note)
