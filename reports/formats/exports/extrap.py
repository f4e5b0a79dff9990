"""Step times as JSON Lines for Extra-P, which models their growth with the ranks.

A line is ``{"params": {"ranks": 4}, "callpath": …, "metric": "step_s", "value": …}``; lines with the same parameters
are repeats. Extra-P (Calotoiu et al. 2013, doi:10.1145/2503210.2503277) refuses a file in which any call path lacks a
point that another has, and asks for five values of a parameter. By default it fits growing terms only, and takes a
time that falls as 1/N, as under strong scaling, for a logarithm that ends below 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from reports.formats.exports import CannotExport, Export, Format
from reports.formats.trial_rows import SweepTable, TrialRow

METRIC = "step_s"
FURTHER_PARAMETERS = ("batch", "threads")
"""Further parameters beside the ranks, used where each curve has several values of them."""
MIN_POINTS = 2
MIN_VALUES_FOR_MODEL = 5
NEGATIVE_EXPONENTS = "--options allow_negative_exponents=True"

Point = tuple[int, ...]
Curves = dict[str, dict[Point, list[float]]]
"""Step times by call path and the values of the parameters."""


def render(table: SweepTable) -> Export:
    """The curves of the table that share the most points; raises :class:`CannotExport` where none has two."""
    rows = [row for row in table.rows if row.feeds_scaling]
    parameters = ("ranks", *(name for name in FURTHER_PARAMETERS if _varies_in_each_curve(rows, name)))
    curves = _curves(rows, parameters)
    grid = _grid(curves)
    lines = [
        json.dumps(
            {
                "params": dict(zip(parameters, point, strict=True)),
                "callpath": callpath,
                "metric": METRIC,
                "value": step_s,
            },
            ensure_ascii=False,
        )
        for callpath, points in curves.items()
        if grid <= points.keys()
        for point in sorted(grid)
        for step_s in points[point]
    ]
    content = "".join(f"{line}\n" for line in lines)
    return Export(content, _left_out(table.rows, curves, grid), _notes(rows, parameters, grid))


def _varies_in_each_curve(rows: Sequence[TrialRow], parameter: str) -> bool:
    """Whether each curve, apart from the parameter, has several values of it: another workload has another batch."""
    values: dict[str, set[int]] = {}
    for row in rows:
        values.setdefault(_without(row.curve, parameter, row), set()).add(getattr(row, parameter))
    return all(len(different) > 1 for different in values.values())


def _curves(rows: Sequence[TrialRow], parameters: Sequence[str]) -> Curves:
    several = len({row.environment for row in rows}) > 1
    curves: Curves = {}
    for row in rows:
        point = tuple(int(getattr(row, name)) for name in parameters)
        assert row.step_s is not None
        curves.setdefault(_callpath(row, parameters, several=several), {}).setdefault(point, []).append(row.step_s)
    return curves


def _callpath(row: TrialRow, parameters: Sequence[str], *, several: bool) -> str:
    """The curve without the parameters; with the environment where there are several."""
    name = row.curve
    for parameter in parameters:
        name = _without(name, parameter, row)
    # Extra-P reads an arrow as caller and callee.
    return (f"{name} ({row.environment})" if several else name).replace("->", "→")


def _without(name: str, parameter: str, row: TrialRow) -> str:
    """The name of a curve without a parameter."""
    # The last occurrence: the value of an option, further left, may have the same text.
    before, matched, after = name.rpartition(f"/{parameter}={getattr(row, parameter)}/")
    return f"{before}/{after}" if matched else name


def _grid(curves: Mapping[str, Mapping[Point, object]]) -> frozenset[Point]:
    """The points that all exported curves have: those of the curve that keeps the most points in total."""
    candidates = [frozenset(points) for points in curves.values() if len(points) >= MIN_POINTS]
    if not candidates:
        raise CannotExport("Extra-P needs a curve of at least two rank counts: export a sweep with more ranks")
    return max(candidates, key=lambda grid: len(grid) * sum(grid <= points.keys() for points in curves.values()))


def _left_out(rows: Sequence[TrialRow], curves: Curves, grid: frozenset[Point]) -> tuple[str, ...]:
    excluded = sum(not row.feeds_scaling for row in rows)
    notes = [f"{excluded} rows that failed, were skipped or feed no scaling claim"] if excluded else []
    for callpath, points in curves.items():
        if not grid <= points.keys():
            notes.append(f"{callpath}: lacks {_points_text(grid - points.keys())}, which others have")
        elif points.keys() - grid:
            notes.append(f"{callpath}: {_points_text(points.keys() - grid)}, which others lack")
    return tuple(notes)


def _notes(rows: Sequence[TrialRow], parameters: Sequence[str], grid: frozenset[Point]) -> tuple[str, ...]:
    notes = []
    for number, parameter in enumerate(parameters):
        values = len({point[number] for point in grid})
        if values < MIN_VALUES_FOR_MODEL:
            notes.append(f"Extra-P asks for {MIN_VALUES_FOR_MODEL} values of {parameter}, there are {values}")
    if any(row.scaling == "strong" for row in rows):
        notes.append(f"step times fall under strong scaling: run extrap with {NEGATIVE_EXPONENTS}")
    return tuple(notes)


def _points_text(points: frozenset[Point] | set[Point]) -> str:
    return "ranks " + ", ".join("×".join(map(str, point)) for point in sorted(points))


FORMAT = Format(
    f"step times over ranks, for Extra-P: `extrap --json FILE {NEGATIVE_EXPONENTS}`",
    (".jsonl",),
    render,
    signature=re.compile(rb'\A\{"params": \{"ranks": [^}]*\}, "callpath": "[^\n]*", "metric": "step_s", "value": '),
)
