"""Throughput over the values of an axis of numbers, such as the batch or the size of a bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.axes import AxisComparison, AxisPoint
from reports.analysis.flags import claim_problem
from reports.analysis.units import join_units
from reports.page.elements import Figure, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series

MIN_VALUES = 3
"""Two values are compared at every rank count; a curve needs more."""
LOG_FACTOR = 8
Measured = tuple[float, AxisPoint]


def value_figures(key: str, comparison: AxisComparison, styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """A figure for each workload: its throughput over the values, each backend at its most ranks.

    Args:
        key: Begins the keys of the figures.
        comparison: The cells of one axis; there is no figure where a value is no number, or where there are only two.
        styles: That of each curve, by the keys of its cases.
    """
    lines = [line for line in _lines(comparison) if len(line) >= MIN_VALUES]
    by_workload: dict[str, list[list[Measured]]] = {}
    for line in lines:
        labels = line[0][1].labels
        by_workload.setdefault(f"{labels.workload} · {labels.scaling}", []).append(line)
    for number, (workload, own) in enumerate(by_workload.items()):
        yield _figure(f"{key}-values-{number}", workload, comparison, own, styles)


def _lines(comparison: AxisComparison) -> list[list[Measured]]:
    """The points of each curve at its most ranks, by value; empty where a value is no number."""
    lines: dict[tuple[str, str], dict[int, list[Measured]]] = {}
    for point in comparison.points:
        if (value := number_of(point.value)) is None:
            return []
        if point.throughput is not None:
            by_ranks = lines.setdefault((point.labels.curve, point.labels.conditions), {})
            by_ranks.setdefault(point.case.ranks, []).append((value, point))
    return [sorted(by_ranks[max(by_ranks)], key=lambda measured: measured[0]) for by_ranks in lines.values()]


def number_of(value: str) -> float | None:
    """The number that a value on an axis is; ``None`` where it is none."""
    try:
        return float(value)
    except ValueError:
        return None


def _figure(
    key: str,
    workload: str,
    comparison: AxisComparison,
    lines: Sequence[Sequence[Measured]],
    styles: Mapping[str, SeriesStyle],
) -> Figure:
    title = comparison.axis.title
    values = [value for line in lines for value, _ in line]
    points = [point for line in lines for _, point in line]
    best = max(points, key=lambda point: point.throughput.value if point.throughput else 0.0)
    rows = tuple(
        (point.labels.backend_and_ranks, point.value, formatting.estimate(point.throughput)) for point in points
    )
    heading = f"Throughput over {title}: {workload}"
    unit = join_units(point.throughput.unit for point in points if point.throughput)
    return Figure(
        key,
        heading,
        title,
        f"throughput ({unit})",
        tuple(_series(line, styles) for line in lines),
        f"The highest: {formatting.estimate(best.throughput)}, {best.labels.backend_and_ranks}, {title}={best.value}.",
        Table(heading, ("backend, ranks", title, "throughput (95 %)"), rows),
        log_x=min(values) > 0 and max(values) >= LOG_FACTOR * min(values),
    )


def _series(line: Sequence[Measured], styles: Mapping[str, SeriesStyle]) -> Series:
    first = line[0][1]
    return estimate_series(
        first.labels.backend_and_ranks,
        [value for value, _ in line],
        [point.throughput for _, point in line if point.throughput is not None],
        styles[first.case.key],
        [claim_problem(point.case.flags) is not None for _, point in line],
    )
