"""What the values of an axis gain over its base value: a figure, a sentence and a table for each axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import changes, formatting
from reports.analysis.axes import Axis, AxisComparison, AxisPoint
from reports.analysis.case_groups import MAX_CURVES
from reports.analysis.flags import claim_problem
from reports.page.axis_values import value_figures
from reports.page.elements import Figure, Section, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series

SUBTITLE = "Throughput ÷ that of the base value at the same number of ranks, everything else equal; 95 % intervals."
HEADER = ("workload", "backend", "scaling", "ranks", "value", "throughput (95 %)", "gain over the base (95 %)")
Line = tuple[AxisPoint, ...]
"""The points of one value that have all but the rank count in common, the fewest ranks first."""


def sections(comparisons: Sequence[AxisComparison], styles: Mapping[str, SeriesStyle]) -> Iterator[Section]:
    """One section for all axes, where there are any; ``styles``: that of each curve, by the keys of its cases."""
    if comparisons:
        figures = tuple(figure for number, one in enumerate(comparisons) for figure in _figures(number, one, styles))
        # A figure has the table of its axis.
        bare = tuple(axis_table(comparison) for comparison in comparisons if not _lines(comparison))
        yield Section("Over an axis", SUBTITLE, figures, bare)


def axis_sentence(comparison: AxisComparison) -> str:
    """``precision=bf16 against float32 (the default): 1.31× (1.28–1.34×) at 1 rank … (synthetic, ddp/gloo).``"""
    axis, lines = comparison.axis, _lines(comparison)
    parts: list[str] = []
    for value in axis.values:
        of_value = [line for line in lines if line[0].value == value]
        if value == axis.base or not of_value:
            continue
        # Where the most ranks were measured, the largest change.
        shown = max(of_value, key=lambda line: (line[-1].case.ranks, abs(_gain(line[-1]) - 1)))
        gains = ", ".join(f"{_gain_with_verdict(point)} at {point.labels.ranks}" for point in shown)
        others = _gains_elsewhere([line for line in of_value if line is not shown])
        against = "" if parts else f" against {axis.base_title}"
        where = f"{shown[0].labels.workload}, {shown[0].labels.backend}{others}"
        parts.append(f"{axis.title}={value}{against}: {gains} ({where})")
    if not parts:
        return f"{axis.title}: nothing can be compared with {axis.base_title}; the table says why."
    return f"{'; '.join(parts)}."


def _gains_elsewhere(lines: Sequence[Line]) -> str:
    """``; 0.82× to 1.30× in 3 others``: at their most ranks; empty where there are none."""
    if not lines:
        return ""
    shown = dict.fromkeys(f"{formatting.number(gain)}×" for gain in sorted(_gain(line[-1]) for line in lines))
    lowest, highest = next(iter(shown)), next(reversed(shown))
    gains = lowest if lowest == highest else f"{lowest} to {highest}"
    return f"; {gains} in {formatting.counted(len(lines), 'other')}"


def axis_table(comparison: AxisComparison) -> Table:
    """One row for each cell on an axis."""
    axis = comparison.axis
    rows = tuple(
        (
            point.labels.workload,
            point.labels.backend,
            point.labels.scaling,
            point.labels.rank_count,
            axis.base_title if point.value == axis.base else point.value,
            formatting.estimate(point.throughput),
            _gain_text(point) if point.gain is not None else f"– ({point.reason})",
        )
        for point in comparison.points
    )
    return Table(f"Over {axis.title}: {', '.join(axis.values)}", HEADER, rows)


def _figures(number: int, comparison: AxisComparison, styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """One figure; of an axis with more curves than one figure holds, one for each workload."""
    lines = _lines(comparison)
    if len(lines) <= MAX_CURVES:
        groups = [lines]
    else:
        workloads = dict.fromkeys(line[0].labels.workload for line in lines)
        groups = [[line for line in lines if line[0].labels.workload == workload] for workload in workloads]
    for part, group in enumerate(group for group in groups if group):
        yield _figure(f"axis-{number}-{part}", comparison, group, styles)
    yield from value_figures(f"axis-{number}", comparison, styles)


def _figure(key: str, comparison: AxisComparison, lines: Sequence[Line], styles: Mapping[str, SeriesStyle]) -> Figure:
    axis = comparison.axis
    several = len({line[0].labels.workload for line in lines}) > 1
    where = "" if several else f": {lines[0][0].labels.workload}"
    series = tuple(
        estimate_series(
            _line_name(axis, line, several=several),
            [float(point.case.ranks) for point in line],
            [point.gain for point in line if point.gain is not None],
            styles[line[0].case.key],
            [claim_problem(point.case.flags) is not None for point in line],
        )
        for line in lines
    )
    return Figure(
        key,
        f"What {axis.title} gains{where}",
        "ranks",
        f"throughput ÷ {axis.title}={axis.base}",
        series,
        axis_sentence(comparison),
        axis_table(comparison),
        "one",
        "no gain",
        log_y=True,
    )


def _line_name(axis: Axis, line: Line, *, several: bool) -> str:
    labels = line[0].labels
    workload = f"{labels.workload}, " if several else ""
    return f"{workload}{labels.backend}: {axis.title}={line[0].value}"


def _lines(comparison: AxisComparison) -> list[Line]:
    """The points with a gain of each value but the base, by what else they have in common."""
    lines: dict[tuple[str, ...], list[AxisPoint]] = {}
    for point in comparison.points:
        if point.gain is not None and point.value != comparison.axis.base:
            labels = point.labels
            lines.setdefault((labels.curve, labels.conditions, point.value), []).append(point)
    return [tuple(sorted(line, key=lambda point: point.case.ranks)) for line in lines.values()]


def _gain(point: AxisPoint) -> float:
    return point.gain.value if point.gain else 1.0


def _gain_text(point: AxisPoint) -> str:
    """``1.31× (1.28–1.34×)``"""
    return "–" if point.gain is None else changes.times(point.gain)


def _gain_with_verdict(point: AxisPoint) -> str:
    """``1.02× (0.970–1.07×), statistically tied``: where the interval holds 1."""
    gain = point.gain
    tied = gain is not None and gain.low is not None and gain.high is not None and gain.low <= 1 <= gain.high
    return f"{_gain_text(point)}{', statistically tied,' if tied else ''}"
