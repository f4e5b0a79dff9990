"""Figures as static SVG: what is seen in print, without JavaScript, and until a figure is drawn to be pointed at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from reports.page.elements import Figure, Series
from reports.page.layout import (
    HEIGHT,
    LABEL_ANGLE,
    LEFT,
    TOP,
    Axis,
    FigureLayout,
    ellipsize,
    ideal_line,
    pixels,
    stack_bases,
)
from reports.page.styles import (
    IDEAL_DASH,
    MAX_MARKED_POINTS,
    NEUTRAL_COLOUR,
    SeriesStyle,
    dodge_series,
    has_band,
    has_markers,
    series_styles,
)

PIXELS_PER_BUCKET = 6
"""In so many pixels across, a curve is drawn through two points at most."""
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
}


def figure_svg(figure: Figure) -> str:
    """The figure as one ``<svg>`` element; text in it is escaped. Titles of axes and legend stand outside of it."""
    figure = dodge_series(figure)
    canvas = FigureLayout(figure)
    clip = f"{escape(figure.key)}-clip"
    clip_path = (
        f'<clipPath id="{clip}"><rect x="{LEFT}" y="{TOP - 6}" width="{canvas.right - LEFT + 8}" '
        f'height="{canvas.bottom - TOP + 12}"/></clipPath>'
    )
    if figure.stacked:
        elements = _bars(figure, canvas)
    else:
        looks = series_styles(figure)
        elements = [*_ideal(figure, canvas)]
        for number, (series, look) in enumerate(zip(figure.series, looks, strict=True)):
            elements += _curve(series, look, canvas, f"{escape(figure.key)}-{number}")
    return (
        f'<svg class="static" viewBox="0 0 {canvas.width} {HEIGHT}" preserveAspectRatio="xMinYMid" fill="none" '
        f'aria-hidden="true">{clip_path}{_window(figure, canvas)}{_axes(canvas)}'
        f'<g clip-path="url(#{clip})">{"".join(elements)}</g></svg>'
    )


def swatch(look: SeriesStyle, series: Series, *, stacked: bool) -> str:
    """What stands for a series in the legend."""
    if stacked:
        hatch = f'<path d="{HATCH_PATHS[look.pattern]}" transform="translate(8)scale(2)" class="hatch"/>'
        return _swatch(f'<rect width="14" height="12" x="8" fill="{look.colour}"/>{hatch if look.pattern else ""}')
    line = "" if series.look == "markers" else _line("M0 6H30", look, 2 if has_markers(series) else 1.5)
    marker = f'<path transform="translate(15 6)" d="{MARKER_PATHS[look.marker]}" fill="{look.colour}"/>'
    return _swatch(line + (marker if has_markers(series) else ""))


def extra_swatches(figure: Figure) -> list[tuple[str, str]]:
    """What else is to be seen beside the series, and its name."""
    ideal = _swatch(_line("M0 6H30", SeriesStyle(NEUTRAL_COLOUR, IDEAL_DASH, "", ""), 1.5))
    window = _swatch('<rect class="window" width="30" height="12"/>')
    return [*([(ideal, "ideal")] if figure.ideal else []), *([(window, "measured window")] if figure.window else [])]


def _swatch(drawn: str) -> str:
    return f'<svg viewBox="0 0 30 12" aria-hidden="true">{drawn}</svg>'


def _axes(canvas: FigureLayout) -> str:
    """Lines across, the ground line, and the labels of both axes."""
    rows = [(canvas.down(y), name) for y, name in canvas.y.ticks]
    lines = "".join(f"M{LEFT} {pixels(down)}H{canvas.right}" for down, _ in rows)
    labels = [
        f'<text x="{LEFT - 8}" y="{pixels(down + 4)}" text-anchor="end">{escape(name)}</text>' for down, name in rows
    ]
    marks = ""
    for x, name in canvas.x.ticks:
        across = pixels(canvas.across(x))
        marks += f"M{across} {canvas.bottom}v4"
        if canvas.slanted:
            labels.append(
                f'<text transform="translate({across} {canvas.bottom + 14})rotate({LABEL_ANGLE})" '
                f'text-anchor="end">{escape(ellipsize(name, canvas.max_label_chars))}</text>'
            )
        else:
            labels.append(f'<text x="{across}" y="{canvas.bottom + 18}" text-anchor="middle">{escape(name)}</text>')
    return (
        f'<path class="grid" d="{lines}"/><path class="ground" d="M{LEFT} {canvas.bottom}H{canvas.right}{marks}"/>'
        f'<g class="ticks">{"".join(labels)}</g>'
    )


def _window(figure: Figure, canvas: FigureLayout) -> str:
    if figure.window is None:
        return ""
    left, right = (canvas.across(x) for x in figure.window)
    return (
        f'<rect class="window" x="{pixels(left)}" y="{TOP}" width="{pixels(right - left)}" '
        f'height="{canvas.bottom - TOP}"/>'
    )


def _ideal(figure: Figure, canvas: FigureLayout) -> Iterator[str]:
    points = [canvas.place(x, y) for x, y in ideal_line(figure) if canvas.has(x, y)]
    if points:
        yield _line("M" + "L".join(points), SeriesStyle(NEUTRAL_COLOUR, IDEAL_DASH, "", ""), 1.5)


class Point(NamedTuple):
    """One of a series."""

    x: float
    y: float
    low: float | None
    high: float | None
    hollow: bool


def _curve(series: Series, look: SeriesStyle, canvas: FigureLayout, key: str) -> Iterator[str]:
    """Band or intervals, then the line, then its markers."""
    all_points = list(map(Point, series.x, series.y, series.low, series.high, series.hollow))
    points = [all_points[at] for at in downsample(series, canvas.x, (canvas.right - LEFT) // PIXELS_PER_BUCKET)]
    drawable = [point for point in points if canvas.has(point.x, point.y)]
    yield from _intervals(drawable, look, canvas, has_band(series))
    if series.look != "markers":
        runs = groupby(points, key=lambda point: canvas.has(point.x, point.y))
        lines = ["M" + "L".join(canvas.place(point.x, point.y) for point in run) for shown, run in runs if shown]
        yield _line("".join(lines), look, 2 if has_markers(series) else 1.5)
    if has_markers(series):
        yield from _markers(drawable, look, canvas, key)


def _intervals(points: Sequence[Point], look: SeriesStyle, canvas: FigureLayout, banded: bool) -> Iterator[str]:
    # A logarithm has no place for what is not above 0: such an interval ends at the ground.
    floor = canvas.y.low if canvas.y.log else -math.inf
    spans = [
        (point.x, max(point.low, floor), point.high)
        for point in points
        if point.low is not None and point.high is not None
    ]
    if banded and len(spans) > 1:
        above = [canvas.place(x, high) for x, _, high in spans]
        below = [canvas.place(x, low) for x, low, _ in reversed(spans)]
        yield f'<path d="M{"L".join([*above, *below])}z" fill="{look.colour}" fill-opacity=".15"/>'
    elif spans and not banded:
        bars = "".join(f"M{canvas.place(x, low)}V{pixels(canvas.down(high))}" for x, low, high in spans)
        yield f'<path d="{bars}" stroke="{look.colour}" stroke-width="1.5"/>'


def _markers(points: Sequence[Point], look: SeriesStyle, canvas: FigureLayout, key: str) -> Iterator[str]:
    """One definition for all solid ones and one for the hollow: a point then costs its place and no more."""
    scale = 1 if len(points) <= MAX_MARKED_POINTS else 0.6
    for hollow in (False, True):
        places = [canvas.place(point.x, point.y) for point in points if point.hollow == hollow]
        if not places:
            continue
        name = f"{key}-{'hollow' if hollow else 'solid'}"
        fill = f'class="hollow" stroke="{look.colour}" stroke-width="1.6"' if hollow else f'fill="{look.colour}"'
        yield (
            f'<marker id="{name}" markerUnits="userSpaceOnUse" markerWidth="14" markerHeight="14" '
            f'viewBox="-7 -7 14 14"><path transform="scale({scale})" d="{MARKER_PATHS[look.marker]}" {fill}/></marker>'
            f'<path d="M{"L".join(places)}" marker-start="url(#{name})" marker-mid="url(#{name})" '
            f'marker-end="url(#{name})"/>'
        )


def _bars(figure: Figure, canvas: FigureLayout) -> list[str]:
    """Layers on each other, told apart by pattern as well as by colour."""
    drawn = []
    half = 0.36 if len(figure.categories) > 2 else 0.2
    for number, (layer, look, below) in enumerate(
        zip(figure.series, series_styles(figure), stack_bases(figure.series), strict=True)
    ):
        boxes = ""
        for x, y in zip(layer.x, layer.y, strict=True):
            left, right = pixels(canvas.across(x - half)), pixels(canvas.across(x + half))
            base = below.get(x, 0.0)
            boxes += f"M{left} {pixels(canvas.down(base))}H{right}V{pixels(canvas.down(base + y))}H{left}z"
        drawn.append(f'<path d="{boxes}" fill="{look.colour}"/>')
        if look.pattern:
            name = f"{escape(figure.key)}-{number}-hatch"
            drawn.append(
                f'<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
                f'<path class="hatch" d="{HATCH_PATHS[look.pattern]}"/></pattern>'
                f'<path d="{boxes}" fill="url(#{name})"/>'
            )
    return drawn


def downsample(series: Series, axis: Axis, buckets: int) -> list[int]:
    """Positions of the points to draw: of each stretch of the axis the lowest and the highest, so that no peak is
    lost; all of them where there are few."""
    if len(series.x) <= 2 * buckets:
        return list(range(len(series.x)))
    columns: dict[int, list[int]] = {}
    for at, x in enumerate(series.x):
        if axis.low <= x <= axis.high:
            columns.setdefault(int(axis.at(x) * buckets), []).append(at)
    ends = (
        {min(column, key=series.y.__getitem__), max(column, key=series.y.__getitem__)} for column in columns.values()
    )
    return sorted({at for pair in ends for at in pair})


def _line(path: str, look: SeriesStyle, width: float) -> str:
    dash = f' stroke-dasharray="{" ".join(map(str, look.dash))}"' if look.dash else ""
    return f'<path d="{path}" stroke="{look.colour}" stroke-width="{width}"{dash}/>'
