"""What cells use on the page: energy per sample, costs, and the timelines of hosts and GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup
from reports.analysis.stats import Estimate
from reports.analysis.telemetry import ENERGY_READINGS
from reports.analysis.timeline import TIMELINE_QUANTITIES, Timeline
from reports.page.elements import Figure, Section, Series, Table
from reports.page.series import point_series, series_by_ranks

DEVICE_TITLES = {"cpu_energy": "CPU packages of the hosts", "gpu_energy": "GPUs of the ranks"}
NOT_SAMPLED = "not sampled"


def energy_section(groups: Sequence[CellGroup], styles: Mapping[str, int]) -> Section:
    """Energy per sample: figures over ranks, and a table that also has the reasons where it is unknown."""
    figures = tuple(
        figure
        for number, group in enumerate(groups)
        for name in ENERGY_READINGS
        if (figure := _energy_figure(f"energy{number}", name, group, styles)) is not None
    )
    cells = [cell for group in groups for cell in group.cells if cell.throughput is not None]
    header = ("cell", "devices", "energy (95 %)", "trials")
    note = (
        "Energy of the devices during the measured window ÷ the work of all ranks in it. CPU packages include "
        "everything that ran on the hosts."
    )
    rows = (*_known_rows(cells), *_unknown_rows(cells))
    return Section("Energy", figures=figures, tables=(Table("Energy per sample, byte or element", header, rows, note),))


def _energy_of(name: str, cell: Cell) -> Estimate | None:
    return next((reading.estimate for reading in cell.usage if reading.name == name), None)


def _energy_figure(key: str, name: str, group: CellGroup, styles: Mapping[str, int]) -> Figure | None:
    cells = group.cells
    estimate_of = partial(_energy_of, name)
    series, rows = series_by_ranks(cells, styles, estimate_of, formatting.estimate)
    known = [(cell, value) for cell in cells if (value := estimate_of(cell)) is not None]
    if not known:
        return None
    unit = known[0][1].unit
    least, value = min(known, key=lambda entry: entry[1].value)
    where = least.labels.backend_at_ranks
    caption = f"The lowest: {formatting.estimate(value)}, {where}."
    over = " over ranks" if group.has_curve else ""
    table = Table(f"Energy{over}", ("backend", "ranks", "energy (95 % interval)", "trials", "flags"), rows)
    return Figure(
        f"{key}-{name.replace('_', '-')}",
        f"{group.title}: {DEVICE_TITLES[name]}",
        "ranks",
        f"energy ({unit})",
        series,
        caption,
        table,
    )


def _known_rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    for cell in cells:
        for name in ENERGY_READINGS:
            if (value := _energy_of(name, cell)) is not None:
                yield cell.labels.title, DEVICE_TITLES[name], formatting.estimate(value), str(value.n)


def _unknown_rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    """One row for each reason, not for each cell; a GPU that no cell used is not listed."""
    cells_by_reason: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        reasons = {
            reading.name: reading.reason or ""
            for reading in cell.usage
            if reading.estimate is None and reading.name in ENERGY_READINGS
        }
        if not any(reading.name in ENERGY_READINGS for reading in cell.usage):
            reasons = {"cpu_energy": NOT_SAMPLED}
        for name, reason in reasons.items():
            cells_by_reason.setdefault((name, reason), []).append(cell)
    for (name, reason), cells_without in cells_by_reason.items():
        which = cells_without[0].labels.title if len(cells_without) == 1 else f"{len(cells_without)} cells"
        yield which, DEVICE_TITLES[name], f"unknown: {reason}", "–"


NO_PRICE = "the site reported no cost: set its price"
MILLION = 1e6


def cost_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell of a site with a price; none where nothing was billed."""
    rows = tuple(_cost_row(cell) for cell in cells if cell.cost is not None or cell.cost_reason)
    header = ("cell", "cost of a trial (95 %)", "trials", "per million, at least", "per million, at most")
    note = (
        "In the unit of the given price. Per million units of work (samples, bytes, …): at most the whole trial's cost "
        "over the work of its measured window, with start and warm-up; at least the cost of as much time as the window "
        "takes, as if the trial had been billed from its submission. The longer a run, the closer to the lower bound."
    )
    return Table("Costs", header, rows, note)


def _cost_row(cell: Cell) -> tuple[str, ...]:
    title = cell.labels.title
    if cell.cost is None:
        return title, f"unknown: {cell.cost_reason or NO_PRICE}", "–", "–", "–"
    bounds = ("–", "–") if cell.cost_per_unit is None else _per_million(cell.cost_per_unit)
    return title, formatting.estimate(cell.cost, unit=False), str(cell.cost.n), *bounds


def _per_million(bounds: tuple[float, float]) -> tuple[str, str]:
    least, most = (formatting.number(MILLION * bound) for bound in bounds)
    return least, most


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
"""Windows whose lengths differ by less look the same."""


@dataclass(frozen=True)
class DeviceTimeline:
    """A timeline with its name in the figure; ``of``: its backend and ranks alone."""

    name: str
    of: str
    style: int
    timeline: Timeline


def timeline_section(key: str, group: CellGroup, styles: Mapping[str, int]) -> Section | None:
    """The timelines of a group, folded; ``None`` where nothing was sampled: the usage table has the reason."""
    figures = tuple(
        figure
        for name in TIMELINE_QUANTITIES
        if (figure := _timeline_figure(key, name, group.cells, styles)) is not None
    )
    if not figures:
        return None
    subtitle = "Each backend at its largest rank count, from one trial: the last that was sampled."
    return Section(f"{group.title}: over time", subtitle, figures, folded=True)


def _timeline_figure(key: str, name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Figure | None:
    """A quantity that stayed at 0 has no figure; it is in the usage table."""
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
        tuple(_timeline_series(line) for line in drawn),
        _timeline_caption(lines, drawn),
        _timeline_table(title, lines),
        percent=TIMELINE_QUANTITIES[name].unit == "1",
        window=(0.0, max(line.timeline.window_s for line in drawn)),
    )


def _device_timelines(name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Iterator[DeviceTimeline]:
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
        for position, timeline in enumerate(timelines):
            of = f"{backend}, {cell.labels.ranks}"
            title = f"{of} · {timeline.device}" if len(timelines) > 1 else of
            # The first device has its backend's style; the others have styles of no backend.
            yield DeviceTimeline(title, of, styles[backend] + position * len(styles), timeline)


def _limit_series(lines: Sequence[DeviceTimeline]) -> list[DeviceTimeline]:
    """At most :data:`MAX_SERIES`, taking the devices of the backends in turn."""
    return sorted(lines, key=lambda line: line.style)[:MAX_SERIES]


def _timeline_series(line: DeviceTimeline) -> Series:
    timeline = line.timeline
    return point_series(line.name, timeline.times_s, timeline.values, line.style, "line")


def _timeline_caption(lines: Sequence[DeviceTimeline], drawn: Sequence[DeviceTimeline]) -> str:
    by_cell: dict[str, list[Timeline]] = {}
    for line in lines:
        by_cell.setdefault(line.of, []).append(line.timeline)
    summaries = "; ".join(f"{of}: {_window_summary(timelines)}" for of, timelines in by_cell.items())
    windows = [line.timeline.window_s for line in drawn]
    shaded = "measured window" if max(windows) <= SAME_WINDOW_RATIO * min(windows) else "longest measured window"
    more = f" {len(lines) - len(drawn)} further lines are in the table only." if len(lines) > len(drawn) else ""
    return (
        f"Mean and range in the window: {summaries}. The {shaded}, "
        f"{formatting.number(max(windows))} s, is shaded.{more}"
    )


def _window_summary(timelines: Sequence[Timeline]) -> str:
    """The mean and range over all devices of a cell."""
    mean = fmean(timeline.mean for timeline in timelines)
    least, most = min(timeline.least for timeline in timelines), max(timeline.most for timeline in timelines)
    devices = f" over {len(timelines)} devices" if len(timelines) > 1 else ""
    return f"{formatting.with_range(mean, least, most, timelines[0].unit)}{devices}"


def _timeline_table(title: str, lines: Sequence[DeviceTimeline]) -> Table:
    rows = tuple(
        (
            line.of,
            timeline.device,
            f"{formatting.number(timeline.window_s)} s",
            str(timeline.samples),
            *(formatting.quantity(value, timeline.unit) for value in (timeline.mean, timeline.least, timeline.most)),
        )
        for line in lines
        for timeline in (line.timeline,)
    )
    header = ("backend, ranks", "device", "window", "samples in it", "mean", "lowest", "highest")
    note = "From one trial each. Counters (processor time, bytes) are shown as their growth between two samples."
    return Table(f"{title} over time", header, rows, note)
