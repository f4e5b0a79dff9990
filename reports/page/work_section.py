"""Throughput over the options of a workload that change its work, such as a model and its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.flags import claim_problem
from reports.analysis.label_order import natural_key
from reports.analysis.units import join_units
from reports.analysis.work_axes import WorkAxis, WorkLine
from reports.page.axis_values import LOG_FACTOR, number_of
from reports.page.elements import Figure, Section, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series

TITLE = "Over an option of the work"
SUBTITLE = "The work differs: a throughput over one value says nothing of that over another, beyond what a value costs."


def sections(axes: Sequence[WorkAxis], styles: Mapping[str, SeriesStyle]) -> Iterator[Section]:
    """One section for all options, where there are any; ``styles``: that of each curve, by the keys of its cases."""
    if axes:
        figures = tuple(_figure(f"work-{number}", axis, styles) for number, axis in enumerate(axes))
        yield Section(TITLE, SUBTITLE, figures, folded=True)


def _figure(key: str, axis: WorkAxis, styles: Mapping[str, SeriesStyle]) -> Figure:
    """Curves over numbers, bars over words."""
    values = sorted({value for line in axis.lines for value in line.values}, key=natural_key)
    numbers = [number_of(value) for value in values]
    known = [number for number in numbers if number is not None]
    over_numbers = len(known) == len(values)
    places = {value: float(place) for place, value in enumerate(values)}
    if over_numbers:
        places = dict(zip(values, known, strict=True))
    measured = [(line, value, cell) for line in axis.lines for value, cell in zip(line.values, line.cells, strict=True)]
    rows = tuple((_name(line), value, formatting.estimate(cell.throughput)) for line, value, cell in measured)
    best = max(measured, key=lambda entry: entry[2].throughput.value if entry[2].throughput else 0.0)
    heading = f"Throughput over {axis.title}: {axis.workload}"
    unit = join_units(cell.throughput.unit for _, _, cell in measured if cell.throughput)
    return Figure(
        key,
        heading,
        axis.title,
        f"throughput ({unit})",
        tuple(_series(line, places, styles) for line in axis.lines),
        f"The highest: {formatting.estimate(best[2].throughput)}, {_name(best[0])}, {axis.title}={best[1]}.",
        Table(heading, ("backend, ranks", axis.title, "throughput (95 %)"), rows),
        categories=() if over_numbers else tuple(values),
        bars=not over_numbers,
        log_x=over_numbers and min(known) > 0 and max(known) >= LOG_FACTOR * min(known),
    )


def _name(line: WorkLine) -> str:
    return line.labels.backend_and_ranks


def _series(line: WorkLine, places: Mapping[str, float], styles: Mapping[str, SeriesStyle]) -> Series:
    return estimate_series(
        _name(line),
        [places[value] for value in line.values],
        [cell.throughput for cell in line.cells if cell.throughput is not None],
        styles[line.cells[0].case.key],
        [claim_problem(cell.flags) is not None for cell in line.cells],
    )
