"""The trend of one workload group over nights: throughput and efficiency of its curves, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from reports.analysis import changes, formatting
from reports.analysis.comparison import Night, NightCell, NightChange, NightComparison
from reports.analysis.flags import claim_problem
from reports.analysis.units import join_units
from reports.page.bars import bars_for_points
from reports.page.elements import Figure, Hyperlink, Section, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series

MAX_LISTED = 4
TIED = "statistically tied"


def sweep_span(comparisons: NightComparison, labels: dict[str, str]) -> str:
    """``11-19 → 11-20``"""
    return f"{labels[comparisons.before.sweep]} → {labels[comparisons.after.sweep]}"


def change_text(change: NightChange) -> str:
    """``-9.7 % (-12.0 to -7.4 %), slower``; ``16.7× slower (12.0–25.0×)``"""
    shown = changes.change(change.ratio)
    single = ", from one trial" if change.ratio.low is None or change.ratio.high is None else ""
    direction = clear_direction(change)
    return f"{shown}{single}" if direction in shown else f"{shown}{single}, {direction}"


def clear_direction(change: NightChange) -> str:
    """``slower``, ``faster`` or ``statistically tied``"""
    return change.clear_direction or TIED


def join_first(notes: Sequence[str], separator: str = "; ") -> str:
    """The first few notes, and the number of the others."""
    more = f" and {len(notes) - MAX_LISTED} more" if len(notes) > MAX_LISTED else ""
    return f"{separator.join(notes[:MAX_LISTED])}{more}"


GroupKey = tuple[str, str, int]
"""The workload with its data, the conditions, and the seed that the curves of a section share."""
Attribute = Literal["throughput", "efficiency"]
BackendAtRanks = tuple[str, int]
"""A backend at a rank count."""
NightPoints = dict[int, NightCell]
"""The cells of a line, by number of the night."""

HOLLOW_NOTE = "Hollow points: another machine, other versions, or ranks that share cores or a GPU."


@dataclass(frozen=True)
class Trend:
    """The trend of one group: the nights that planned any of its cells, the oldest first, and their labels."""

    key: str
    group: GroupKey
    nights: tuple[Night, ...]
    labels: tuple[str, ...]
    reference: Night
    """Points of nights that are not comparable with it are hollow."""
    styles: dict[str, SeriesStyle]
    """By backend's title."""
    since: str
    """The nights that :attr:`changes` are between, as text."""
    changes: tuple[NightChange, ...]


def group_of(cell: NightCell) -> GroupKey:
    """The group that a cell belongs to."""
    return f"{cell.labels.workload}{cell.labels.stand_in}", cell.labels.conditions, cell.case.seed


def trend_sections(trend: Trend) -> Iterator[Section]:
    """Each curve at its largest rank count, and its other rank counts in a folded section."""
    title, conditions, seed = trend.group
    lines = _measured_lines(trend)
    title += _message_size(lines)
    top = _largest_rank_lines(trend, lines)
    where = "at each backend's most ranks"
    if lines and len({name for name, _ in lines}) == len(lines):
        # One rank count says nothing of scaling.
        conditions = next(cell.labels.unscaled_conditions for points in lines.values() for cell in points.values())
        where = f"at {' and '.join(map(formatting.ranks, sorted({ranks for _, ranks in lines})))}"
    subtitle = f"{conditions} · seed {seed}" if seed else conditions
    yield Section(title, subtitle, _figures(trend, "top", where, top))
    others = sorted({ranks for name, ranks in lines if (name, ranks) not in top}, reverse=True)
    folded = [
        figure
        for ranks in others
        for figure in _figures(
            trend,
            f"n{ranks}",
            f"at {formatting.ranks(ranks)}",
            {line: points for line, points in lines.items() if line[1] == ranks},
        )
    ]
    if folded:
        yield Section(f"{title}: every backend at other rank counts", subtitle, tuple(folded), folded=True)


def _message_size(lines: dict[BackendAtRanks, NightPoints]) -> str:
    """`` of 64 MiB`` where the group is a collective."""
    sizes = [cell.message_bytes for points in lines.values() for cell in points.values() if cell.message_bytes]
    return f" of {formatting.message_size(max(sizes))}" if sizes else ""


def _measured_lines(trend: Trend) -> dict[BackendAtRanks, NightPoints]:
    lines: dict[BackendAtRanks, NightPoints] = {}
    for number, night in enumerate(trend.nights):
        for cell in night.measured().values():
            if group_of(cell) == trend.group:
                lines.setdefault((cell.labels.backend, cell.case.ranks), {})[number] = cell
    names = list(trend.styles)
    return dict(sorted(lines.items(), key=lambda line: (names.index(line[0][0]), line[0][1])))


def _largest_rank_lines(trend: Trend, lines: dict[BackendAtRanks, NightPoints]) -> dict[BackendAtRanks, NightPoints]:
    """For each backend the line with the most ranks that the newest night planned; oversubscribed only if all are.

    Planned, not measured: a cell that failed in the last night stays, as a gap.
    """
    top: dict[str, tuple[bool, int]] = {}
    for night in trend.nights:
        planned: dict[str, tuple[bool, int]] = {}
        for cell in (cell for cell in night.cells if group_of(cell) == trend.group):
            name, case = cell.labels.backend, cell.case
            if (name, case.ranks) in lines:
                planned[name] = max(planned.get(name, (False, 0)), (claim_problem(case.flags) is None, case.ranks))
        top |= planned
    return {(name, ranks): lines[name, ranks] for name, (_, ranks) in top.items()}


def _figures(trend: Trend, key: str, where: str, lines: dict[BackendAtRanks, NightPoints]) -> tuple[Figure, ...]:
    unit = join_units(cell.throughput.unit for points in lines.values() for cell in points.values() if cell.throughput)
    efficient = {line: kept for line, points in lines.items() if (kept := _with_efficiency(points))}
    throughput = _figure(
        trend,
        f"{key}-throughput",
        f"Throughput {where}",
        f"throughput ({unit})",
        lines,
        "throughput",
        _change_summary(trend, lines),
    )
    if not efficient:
        return (throughput,)
    return throughput, _figure(
        trend,
        f"{key}-efficiency",
        f"Efficiency {where}",
        "efficiency",
        efficient,
        "efficiency",
        _newest_efficiency(trend, efficient),
    )


def _with_efficiency(points: NightPoints) -> NightPoints:
    return {number: cell for number, cell in points.items() if cell.efficiency is not None}


def _figure(
    trend: Trend,
    key: str,
    title: str,
    y_title: str,
    lines: dict[BackendAtRanks, NightPoints],
    attribute: Attribute,
    caption: str,
) -> Figure:
    share = attribute == "efficiency"
    series = tuple(_series(trend, line, points, attribute) for line, points in lines.items())
    hollow = any(any(line.hollow) for line in series)
    rows: list[tuple[str | Hyperlink, ...]] = [
        (Hyperlink(label, night.href), *(_cell_text(points.get(number), attribute) for points in lines.values()))
        for number, (night, label) in enumerate(zip(trend.nights, trend.labels, strict=True))
    ]
    table = Table(
        f"{title} (95 % interval), the newest sweep first", ("sweep", *map(_title, lines)), tuple(reversed(rows))
    )
    figure = Figure(
        f"{trend.key}-{key}",
        title,
        "sweep",
        y_title,
        series,
        f"{caption} {HOLLOW_NOTE}" if hollow else caption,
        table,
        "one" if share else None,
        categories=trend.labels,
        percent=share,
    )
    return bars_for_points(figure)


def _cell_text(cell: NightCell | None, attribute: Attribute) -> str:
    if cell is None:
        return "–"
    return getattr(cell.labels, attribute) if getattr(cell, attribute) else "–"


def _series(trend: Trend, line: BackendAtRanks, points: NightPoints, attribute: Attribute) -> Series:
    estimates = [getattr(cell, attribute) for cell in points.values()]
    hollow = [
        trend.nights[number].place != trend.reference.place or claim_problem(cell.case.flags) is not None
        for number, cell in points.items()
    ]
    return estimate_series(_title(line), list(map(float, points)), estimates, trend.styles[line[0]], hollow)


def _title(line: BackendAtRanks) -> str:
    return f"{line[0]}, {formatting.ranks(line[1])}"


def _change_summary(trend: Trend, lines: dict[BackendAtRanks, NightPoints]) -> str:
    keys = {cell.key: line for line, points in lines.items() for cell in points.values()}
    summaries = [
        f"{_title(keys[change.cell.key])} {change_text(change)}" for change in trend.changes if change.cell.key in keys
    ]
    if not summaries:
        return "No two of these sweeps are comparable."
    return f"{trend.since}: {join_first(summaries)}."


def _newest_efficiency(trend: Trend, lines: dict[BackendAtRanks, NightPoints]) -> str:
    last = max(number for points in lines.values() for number in points)
    summaries = [f"{_title(line)} {points[last].labels.efficiency}" for line, points in lines.items() if last in points]
    return f"{trend.labels[last]}: {join_first(summaries)}; 100 % is ideal."
