"""The series of a figure as paths of SVG: curves with markers, bars, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby
from typing import NamedTuple

from reports.page.dodge import bar_width
from reports.page.elements import Figure, Series
from reports.page.figure_axes import Axis, stack_bases
from reports.page.layout import FigureLayout, pixels
from reports.page.palette import SeriesStyle
from reports.page.spans import Span, spans
from reports.page.styles import (
    BAR_OPACITY,
    HOLLOW_OPACITY,
    MAX_MARKED_POINTS,
    has_band,
    has_markers,
    series_styles,
)

PIXELS_PER_BUCKET = 6
"""A curve is drawn through at most two points in so many horizontal pixels."""
MARKER_PATHS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "triangle-up": "M0-4.6L4.6 3.8H-4.6z",
    "cross": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "x": "M-4.5-2.4L-2.4-4.5L0-2.1L2.4-4.5L4.5-2.4L2.1 0L4.5 2.4L2.4 4.5L0 2.1L-2.4 4.5L-4.5 2.4L-2.1 0z",
    "star": "M0-5.5L1.4-1.8L5.2-1.7L2.2.7L3.2 4.5L0 2.3L-3.2 4.5L-2.2.7L-5.2-1.7L-1.4-1.8z",
    "pentagon": "M0-4.8L4.6-1.5L2.8 3.9H-2.8L-4.6-1.5z",
}
HATCH_PATHS = {
    "": "",
    "/": "M0 6L6 0",
    "\\": "M0 0L6 6",
    "x": "M0 6L6 0M0 0L6 6",
    ".": "M2 3a1 1 0 1 0 2 0a1 1 0 1 0-2 0",
    "-": "M0 3H6",
    "|": "M3 0V6",
}


def series_paths(figure: Figure, layout: FigureLayout) -> Iterator[str]:
    """The elements of all series; ``figure``: with its series set apart."""
    if figure.stacked:
        yield from _layers(figure, layout)
    elif figure.bars:
        yield from _bars_with_intervals(figure, layout)
    else:
        for number, (series, style) in enumerate(zip(figure.series, series_styles(figure), strict=True)):
            yield from _curve(series, style, layout, f"{escape(figure.key)}-{number}")


class Point(NamedTuple):
    """One point of a series."""

    x: float
    y: float
    low: float | None
    high: float | None
    hollow: bool


def _curve(series: Series, style: SeriesStyle, layout: FigureLayout, key: str) -> Iterator[str]:
    """The band or intervals of a series, then its line, then its markers."""
    banded = has_band(series)
    marked = has_markers(series)
    series = _with_points(series, downsample(series, layout.x, (layout.right - layout.left) // PIXELS_PER_BUCKET))
    points = list(map(Point, series.x, series.y, series.low, series.high, series.hollow))
    drawable = [point for point in points if layout.is_drawable(point.x, point.y)]
    yield from _intervals(series, style, layout, banded=banded)
    if series.mark != "markers":
        runs = groupby(points, key=lambda point: layout.is_drawable(point.x, point.y))
        lines = ["M" + "L".join(layout.point(point.x, point.y) for point in run) for shown, run in runs if shown]
        yield line("".join(lines), style, 2 if marked else 1.5)
    if marked:
        yield from _markers(drawable, style, layout, key)


def _with_points(series: Series, kept: Sequence[int]) -> Series:
    """The series with these of its points, by number."""
    if len(kept) == len(series.x):
        return series
    return replace(
        series,
        x=tuple(series.x[at] for at in kept),
        y=tuple(series.y[at] for at in kept),
        low=tuple(series.low[at] for at in kept),
        high=tuple(series.high[at] for at in kept),
        hollow=tuple(series.hollow[at] for at in kept),
    )


def _intervals(series: Series, style: SeriesStyle, layout: FigureLayout, *, banded: bool = False) -> Iterator[str]:
    """The band between the ends, or a bar for each point, with an arrow where it goes on beyond the axis."""
    own = [span for span in spans(series, layout.y) if layout.is_drawable(span.x, span.high)]
    if banded:
        if len(own) > 1:
            above = [layout.point(span.x, span.high) for span in own]
            below = [layout.point(span.x, span.low) for span in reversed(own)]
            yield f'<path d="M{"L".join([*above, *below])}z" fill="{style.colour}" fill-opacity=".15"/>'
    elif own:
        bars = "".join(f"M{layout.point(span.x, span.low)}L{layout.point(span.x, span.high)}" for span in own)
        yield f'<path d="{bars}" stroke="{style.colour}" stroke-width="1.5"/>'
        arrows = "".join(head for span in own for head in _arrows(span, layout))
        if arrows:
            yield f'<path d="{arrows}" fill="{style.colour}"/>'


def _arrows(span: Span, layout: FigureLayout) -> Iterator[str]:
    for capped, y, sign in ((span.above, span.high, 1), (span.below, span.low, -1)):
        if capped:
            across, down = layout.place(span.x, y)
            yield arrow(across, down, sign, 0) if layout.rows else arrow(across, down, 0, sign)


def arrow(across: float, down: float, right: int, up: int) -> str:
    """A path of the head of an arrow with its tip at a place, that points to the right or left, or up or down."""
    sides = [(across - 7 * right + 4 * side * up, down + 7 * up + 4 * side * right) for side in (-1, 1)]
    corners = [(across, down), *sides]
    return f"M{'L'.join(f'{pixels(x)} {pixels(y)}' for x, y in corners)}z"


def _markers(points: Sequence[Point], style: SeriesStyle, layout: FigureLayout, key: str) -> Iterator[str]:
    """Markers share one definition for solid and one for hollow points, so that a point takes only its coordinates."""
    scale = 1 if len(points) <= MAX_MARKED_POINTS else 0.6
    for hollow in (False, True):
        places = [layout.point(point.x, point.y) for point in points if point.hollow == hollow]
        if not places:
            continue
        name = f"{key}-{'hollow' if hollow else 'solid'}"
        fill = f'class="hollow" stroke="{style.colour}" stroke-width="1.6"' if hollow else f'fill="{style.colour}"'
        yield (
            f'<marker id="{name}" markerUnits="userSpaceOnUse" markerWidth="14" markerHeight="14" '
            f'viewBox="-7 -7 14 14"><path transform="scale({scale})" d="{MARKER_PATHS[style.marker]}" {fill}/></marker>'
            f'<path d="M{"L".join(places)}" marker-start="url(#{name})" marker-mid="url(#{name})" '
            f'marker-end="url(#{name})"/>'
        )


def _layers(figure: Figure, layout: FigureLayout) -> list[str]:
    """Stacked layers, which differ by pattern as well as by colour."""
    drawn = []
    half = 0.36 if len(figure.categories) > 2 else 0.2
    for number, (layer, style, below) in enumerate(
        zip(figure.series, series_styles(figure), stack_bases(figure.series), strict=True)
    ):
        boxes = ""
        for x, y in zip(layer.x, layer.y, strict=True):
            base = below.get(x, 0.0)
            boxes += layout.box((x - half, x + half), (base, base + y))
        drawn.append(f'<path d="{boxes}" fill="{style.colour}"/>')
        if style.pattern:
            name = f"{escape(figure.key)}-{number}-hatch"
            drawn.append(
                f'<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
                f'<path class="hatch" d="{HATCH_PATHS[style.pattern]}"/></pattern>'
                f'<path d="{boxes}" fill="url(#{name})"/>'
            )
    return drawn


def _bars_with_intervals(figure: Figure, layout: FigureLayout) -> Iterator[str]:
    """Bars from 0, which differ by pattern as well as by colour where several are over one category."""
    half = bar_width(figure) / 2
    for number, (series, style) in enumerate(zip(figure.series, series_styles(figure), strict=True)):
        points = map(Point, series.x, series.y, series.low, series.high, series.hollow)
        drawable = [point for point in points if layout.is_drawable(point.x, point.y)]
        for hollow in (False, True):
            boxes = "".join(_box(point, half, layout) for point in drawable if point.hollow == hollow)
            if not boxes:
                continue
            yield outlined(boxes, style, HOLLOW_OPACITY if hollow else BAR_OPACITY)
            if style.pattern:
                name = f"{escape(figure.key)}-{number}-{'hollow' if hollow else 'solid'}-hatch"
                yield (
                    f'<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
                    f"{coloured_hatch(style, HATCH_PATHS[style.pattern])}</pattern>"
                    f'<path d="{boxes}" fill="url(#{name})"/>'
                )
        yield from _intervals(series, style, layout)


def _box(point: Point, half: float, layout: FigureLayout) -> str:
    return layout.box((point.x - half, point.x + half), (0, point.y))


def outlined(path: str, style: SeriesStyle, opacity: float = BAR_OPACITY) -> str:
    return f'<path d="{path}" fill="{style.colour}" fill-opacity="{opacity}" stroke="{style.colour}"/>'


def coloured_hatch(style: SeriesStyle, path: str, more: str = "") -> str:
    return f'<path d="{path}" stroke="{style.colour}" {more}/>' if style.pattern else ""


def downsample(series: Series, axis: Axis, buckets: int) -> list[int]:
    """The indices of the points to draw: in each interval of the axis the lowest and the highest, so that no peak is
    lost, and a gap; all of them where there are few."""
    if len(series.x) <= 2 * buckets:
        return list(range(len(series.x)))
    columns: dict[int, list[int]] = {}
    gaps = []
    for at, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        if not math.isfinite(y):
            gaps.append(at)
        elif axis.low <= x <= axis.high:
            columns.setdefault(int(axis.at(x) * buckets), []).append(at)
    ends = (
        {min(column, key=series.y.__getitem__), max(column, key=series.y.__getitem__)} for column in columns.values()
    )
    return sorted({*gaps, *(at for pair in ends for at in pair)})


def line(path: str, style: SeriesStyle, width: float) -> str:
    dash = f' stroke-dasharray="{" ".join(map(str, style.dash))}"' if style.dash else ""
    return f'<path d="{path}" stroke="{style.colour}" stroke-width="{width}"{dash}/>'
