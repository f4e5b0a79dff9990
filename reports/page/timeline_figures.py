"""What hosts and GPUs did over time, with the measured window shaded: a figure for each quantity that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reports.cells import Cell
from reports.page import words
from reports.page.values import Figure, Section, Series, Table
from reports.timeline import SHOWN, Timeline

TITLES = {
    "job_cpu": ("Cores busy with the job", "cores"),
    "network": ("Network", "network (B/s)"),
    "loopback": ("Loopback", "loopback (B/s)"),
    "gpu_utilization": ("GPU utilization", "utilization"),
    "gpu_power": ("GPU power", "power (W)"),
    "gpu_memory": ("GPU memory", "memory (B)"),
}
MOST_SERIES = 8
ALIKE = 1.05
"""Windows whose lengths differ by less are one window to the eye."""


@dataclass(frozen=True)
class Line:
    """A timeline under the name it has in the figure; ``of``: its backend and ranks alone."""

    name: str
    of: str
    style: int
    timeline: Timeline


def timeline_section(key: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Section | None:
    """Folded; ``None`` where nothing is known, for which the table of usage has the reason."""
    figures = tuple(figure for name in SHOWN if (figure := _figure(key, name, cells, styles)) is not None)
    if not figures:
        return None
    subtitle = "Of each backend its largest rank count, and of that one trial: the last that was sampled."
    return Section(f"{words.group_title(cells)}: over time", subtitle, figures, folded=True)


def _figure(key: str, name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Figure | None:
    """A quantity that stayed at 0 has no figure: the table of usage has its 0."""
    lines = tuple(_lines(name, cells, styles))
    if not any(line.timeline.most for line in lines):
        return None
    title, y_title = TITLES[name]
    drawn = _some_of_each(lines)
    return Figure(
        f"{key}-over-time-{name.replace('_', '-')}", title, "seconds since the window began", y_title,
        tuple(_series(line) for line in drawn), _sentence(lines, drawn), _table(title, lines),
        percent=SHOWN[name].unit == "1", window=(0.0, max(line.timeline.window_s for line in drawn)),
    )  # fmt: skip


def _lines(name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Iterator[Line]:
    """Of each backend those of the largest rank count that was sampled."""
    for backend in dict.fromkeys(words.backend_title(cell.case) for cell in cells):
        sampled = [
            (cell, found)
            for cell in cells
            if words.backend_title(cell.case) == backend
            and (found := [timeline for timeline in cell.timelines if timeline.name == name])
        ]
        if not sampled:
            continue
        cell, found = max(sampled, key=lambda one: one[0].case.ranks)
        for position, timeline in enumerate(found):
            of = f"{backend}, {words.placed(cell.case)}"
            title = f"{of} · {timeline.device}" if len(found) > 1 else of
            # The first device looks like its backend everywhere else; the further ones like no other backend.
            yield Line(title, of, styles[backend] + position * len(styles), timeline)


def _some_of_each(lines: Sequence[Line]) -> list[Line]:
    """At most :data:`MOST_SERIES`, by turns the next device of each backend."""
    return sorted(lines, key=lambda line: line.style)[:MOST_SERIES]


def _series(line: Line) -> Series:
    found = line.timeline
    unknown = (None,) * len(found.times_s)
    return Series(line.name, found.times_s, found.values, unknown, unknown, line.style, (False,) * len(unknown),
                  look="line")  # fmt: skip


def _sentence(lines: Sequence[Line], drawn: Sequence[Line]) -> str:
    by_cell: dict[str, list[Timeline]] = {}
    for line in lines:
        by_cell.setdefault(line.of, []).append(line.timeline)
    said = "; ".join(f"{of}: {_spoken(found)}" for of, found in by_cell.items())
    windows = [line.timeline.window_s for line in drawn]
    shaded = "measured window" if max(windows) <= ALIKE * min(windows) else "longest measured window"
    more = f" {len(lines) - len(drawn)} further lines are in the table alone." if len(lines) > len(drawn) else ""
    return f"Mean and range in the window: {said}. The {shaded}, {words.number(max(windows))} s, is shaded.{more}"


def _spoken(found: Sequence[Timeline]) -> str:
    """Of all devices of a cell together."""
    mean = fmean(one.mean for one in found)
    least, most = min(one.least for one in found), max(one.most for one in found)
    devices = f" over {len(found)} devices" if len(found) > 1 else ""
    return f"{words.with_range(mean, least, most, found[0].unit)}{devices}"


def _table(title: str, lines: Sequence[Line]) -> Table:
    rows = tuple(
        (line.of, found.device, f"{words.number(found.window_s)} s", str(found.samples),
         *(words.quantity(value, found.unit) for value in (found.mean, found.least, found.most)))
        for line in lines
        for found in (line.timeline,)
    )  # fmt: skip
    header = ("backend, ranks", "device", "window", "samples in it", "mean", "lowest", "highest")
    note = "Of one trial each. What is counted (processor time, bytes) is shown as its growth between two samples."
    return Table(f"{title} over time", header, rows, note)
