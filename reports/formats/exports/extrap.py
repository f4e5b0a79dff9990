"""Step times as JSON Lines for Extra-P, which models their growth with the ranks.

A line is ``{"params": {"ranks": 4}, "callpath": …, "metric": "step_s", "value": …}``; lines with the same parameters
are repeats. Extra-P (Calotoiu et al. 2013, doi:10.1145/2503210.2503277) refuses a file in which any call path lacks a
point that another has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from reports.formats.exports import CannotExport, Export, Format
from reports.formats.trial_rows import SweepTable, TrialRow

METRIC = "step_s"
FURTHER_PARAMETERS = ("batch", "threads")
"""Further parameters beside the ranks, used where they differ between the rows."""
MIN_POINTS = 2

Point = tuple[int, ...]
Curves = dict[str, dict[Point, list[float]]]
"""Step times by call path and the values of the parameters."""


def render(table: SweepTable) -> Export:
    """The curves of the table that share the most points; raises :class:`CannotExport` where none has two."""
    rows = [row for row in table.rows if row.feeds_scaling]
    parameters = ("ranks", *(name for name in FURTHER_PARAMETERS if len({getattr(row, name) for row in rows}) > 1))
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
    return Export("".join(f"{line}\n" for line in lines), _left_out(table.rows, curves, grid))


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
        # The last occurrence: the value of an option, further left, may have the same text.
        before, matched, after = name.rpartition(f"/{parameter}={getattr(row, parameter)}/")
        name = f"{before}/{after}" if matched else name
    # Extra-P reads an arrow as caller and callee.
    return (f"{name} ({row.environment})" if several else name).replace("->", "→")


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


def _points_text(points: frozenset[Point] | set[Point]) -> str:
    return "ranks " + ", ".join("×".join(map(str, point)) for point in sorted(points))


FORMAT = Format("step times over ranks, for Extra-P: `extrap --json FILE`", (".jsonl",), render)
