"""Figures as static SVG: shown in print, without JavaScript, and until plotly.js has drawn the figure."""

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
    LINE_PX,
    TOP,
    Axis,
    FigureLayout,
    ideal_line,
    pixels,
    stack_bases,
)
from reports.page.palette import IDEAL_DASH, NEUTRAL_COLOUR, SeriesStyle
from reports.page.styles import (
    BAR_OPACITY,
    HOLLOW_OPACITY,
    MAX_MARKED_POINTS,
    bar_width,
    dodge_series,
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


def figure_svg(figure: Figure) -> str:
    """The figure as one ``<svg>`` element, without legend and axis titles; text in it is escaped."""
    figure = dodge_series(figure)
    layout = FigureLayout(figure)
    clip = f"{escape(figure.key)}-clip"
    clip_path = (
        f'<clipPath id="{clip}"><rect x="{LEFT}" y="{TOP - 6}" width="{layout.right - LEFT + 8}" '
        f'height="{layout.bottom - TOP + 12}"/></clipPath>'
    )
    if figure.stacked:
        elements = _bars(figure, layout)
    elif figure.bars:
        elements = [*_ideal(figure, layout), *_bars_with_intervals(figure, layout)]
    else:
        styles = series_styles(figure)
        elements = [*_ideal(figure, layout)]
        for number, (series, style) in enumerate(zip(figure.series, styles, strict=True)):
            elements += _curve(series, style, layout, f"{escape(figure.key)}-{number}")
    return (
        f'<svg class="static" viewBox="0 0 {layout.width} {HEIGHT}" preserveAspectRatio="xMinYMid" fill="none" '
        f'aria-hidden="true">{clip_path}{_window(figure, layout)}{_axes(layout)}'
        f'<g clip-path="url(#{clip})">{"".join(elements)}</g></svg>'
    )


def swatch(style: SeriesStyle, series: Series, figure: Figure) -> str:
    """The symbol of a series in the legend."""
    if figure.bars:
        hatch = _coloured_hatch(style, HATCH_PATHS[style.pattern], 'transform="translate(8)scale(2)"')
        return _swatch(_outlined("M9 1H21V11H9z", style) + hatch)
    if figure.stacked:
        hatch = f'<path d="{HATCH_PATHS[style.pattern]}" transform="translate(8)scale(2)" class="hatch"/>'
        return _swatch(f'<rect width="14" height="12" x="8" fill="{style.colour}"/>{hatch if style.pattern else ""}')
    line = "" if series.mark == "markers" else _line("M0 6H30", style, 2 if has_markers(series) else 1.5)
    marker = f'<path transform="translate(15 6)" d="{MARKER_PATHS[style.marker]}" fill="{style.colour}"/>'
    return _swatch(line + (marker if has_markers(series) else ""))


def extra_swatches(figure: Figure) -> list[tuple[str, str]]:
    """The symbols and names of the ideal line and the measured window, where the figure has them."""
    ideal = _swatch(_line("M0 6H30", SeriesStyle(NEUTRAL_COLOUR, IDEAL_DASH, "", ""), 1.5))
    window = _swatch('<rect class="window" width="30" height="12"/>')
    return [
        *([(ideal, figure.ideal_name)] if figure.ideal else []),
        *([(window, "measured window")] if figure.window else []),
    ]


def _swatch(drawn: str) -> str:
    return f'<svg viewBox="0 0 30 12" aria-hidden="true">{drawn}</svg>'


def _axes(layout: FigureLayout) -> str:
    """Grid lines, the base line, and the labels of both axes."""
    rows = [(layout.y_pixel(y), name) for y, name in layout.y.ticks]
    grid = "".join(f"M{LEFT} {pixels(down)}H{layout.right}" for down, _ in rows)
    labels = [
        f'<text x="{LEFT - 8}" y="{pixels(down + 4)}" text-anchor="end">{escape(name)}</text>' for down, name in rows
    ]
    marks = ""
    for (x, _), lines in zip(layout.x.ticks, layout.labels, strict=True):
        across = pixels(layout.x_pixel(x))
        marks += f"M{across} {layout.bottom}v4"
        if layout.slanted:
            labels.append(
                f'<text transform="translate({across} {layout.bottom + 14})rotate({LABEL_ANGLE})" '
                f'text-anchor="end">{escape(lines[0])}</text>'
            )
            continue
        labels += [
            f'<text x="{across}" y="{layout.bottom + 18 + LINE_PX * row}" text-anchor="middle">{escape(line)}</text>'
            for row, line in enumerate(lines)
        ]
    return (
        f'<path class="grid" d="{grid}"/><path class="ground" d="M{LEFT} {layout.bottom}H{layout.right}{marks}"/>'
        f'<g class="ticks">{"".join(labels)}</g>'
    )


def _window(figure: Figure, layout: FigureLayout) -> str:
    if figure.window is None:
        return ""
    left, right = (layout.x_pixel(x) for x in figure.window)
    return (
        f'<rect class="window" x="{pixels(left)}" y="{TOP}" width="{pixels(right - left)}" '
        f'height="{layout.bottom - TOP}"/>'
    )


def _ideal(figure: Figure, layout: FigureLayout) -> Iterator[str]:
    points = [layout.point(x, y) for x, y in ideal_line(figure) if layout.is_drawable(x, y)]
    if points:
        yield _line("M" + "L".join(points), SeriesStyle(NEUTRAL_COLOUR, IDEAL_DASH, "", ""), 1.5)


class Point(NamedTuple):
    """One point of a series."""

    x: float
    y: float
    low: float | None
    high: float | None
    hollow: bool


def _curve(series: Series, style: SeriesStyle, layout: FigureLayout, key: str) -> Iterator[str]:
    """The band or intervals of a series, then its line, then its markers."""
    all_points = list(map(Point, series.x, series.y, series.low, series.high, series.hollow))
    points = [all_points[at] for at in downsample(series, layout.x, (layout.right - LEFT) // PIXELS_PER_BUCKET)]
    drawable = [point for point in points if layout.is_drawable(point.x, point.y)]
    yield from _intervals(drawable, style, layout, has_band(series))
    if series.mark != "markers":
        runs = groupby(points, key=lambda point: layout.is_drawable(point.x, point.y))
        lines = ["M" + "L".join(layout.point(point.x, point.y) for point in run) for shown, run in runs if shown]
        yield _line("".join(lines), style, 2 if has_markers(series) else 1.5)
    if has_markers(series):
        yield from _markers(drawable, style, layout, key)


def _intervals(points: Sequence[Point], style: SeriesStyle, layout: FigureLayout, banded: bool) -> Iterator[str]:
    # A logarithmic axis has no 0: such an interval ends at the base line.
    floor = layout.y.low if layout.y.log else -math.inf
    spans = [
        (point.x, max(point.low, floor), point.high)
        for point in points
        if point.low is not None and point.high is not None
    ]
    if banded and len(spans) > 1:
        above = [layout.point(x, high) for x, _, high in spans]
        below = [layout.point(x, low) for x, low, _ in reversed(spans)]
        yield f'<path d="M{"L".join([*above, *below])}z" fill="{style.colour}" fill-opacity=".15"/>'
    elif spans and not banded:
        bars = "".join(f"M{layout.point(x, low)}V{pixels(layout.y_pixel(high))}" for x, low, high in spans)
        yield f'<path d="{bars}" stroke="{style.colour}" stroke-width="1.5"/>'


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


def _bars(figure: Figure, layout: FigureLayout) -> list[str]:
    """Stacked layers, which differ by pattern as well as by colour."""
    drawn = []
    half = 0.36 if len(figure.categories) > 2 else 0.2
    for number, (layer, style, below) in enumerate(
        zip(figure.series, series_styles(figure), stack_bases(figure.series), strict=True)
    ):
        boxes = ""
        for x, y in zip(layer.x, layer.y, strict=True):
            left, right = pixels(layout.x_pixel(x - half)), pixels(layout.x_pixel(x + half))
            base = below.get(x, 0.0)
            boxes += f"M{left} {pixels(layout.y_pixel(base))}H{right}V{pixels(layout.y_pixel(base + y))}H{left}z"
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
            yield _outlined(boxes, style, HOLLOW_OPACITY if hollow else BAR_OPACITY)
            if style.pattern:
                name = f"{escape(figure.key)}-{number}-{'hollow' if hollow else 'solid'}-hatch"
                yield (
                    f'<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
                    f"{_coloured_hatch(style, HATCH_PATHS[style.pattern])}</pattern>"
                    f'<path d="{boxes}" fill="url(#{name})"/>'
                )
        yield from _intervals(drawable, style, layout, banded=False)


def _box(point: Point, half: float, layout: FigureLayout) -> str:
    left, right = pixels(layout.x_pixel(point.x - half)), pixels(layout.x_pixel(point.x + half))
    return f"M{left} {pixels(layout.y_pixel(0))}H{right}V{pixels(layout.y_pixel(point.y))}H{left}z"


def _outlined(path: str, style: SeriesStyle, opacity: float = BAR_OPACITY) -> str:
    return f'<path d="{path}" fill="{style.colour}" fill-opacity="{opacity}" stroke="{style.colour}"/>'


def _coloured_hatch(style: SeriesStyle, path: str, more: str = "") -> str:
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


def _line(path: str, style: SeriesStyle, width: float) -> str:
    dash = f' stroke-dasharray="{" ".join(map(str, style.dash))}"' if style.dash else ""
    return f'<path d="{path}" stroke="{style.colour}" stroke-width="{width}"{dash}/>'
