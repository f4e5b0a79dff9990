"""Figures as static SVG: shown in print, without JavaScript, and until plotly.js has drawn the figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

from reports.page.dodge import dodge_series, is_named_by_category
from reports.page.elements import Figure, Series
from reports.page.figure_axes import ideal_line, y_axis
from reports.page.layout import LINE_PX, FigureLayout, pixels
from reports.page.palette import IDEAL_DASH, NEUTRAL_COLOUR, SeriesStyle
from reports.page.spans import has_capped
from reports.page.styles import has_markers, series_styles
from reports.page.svg_series import HATCH_PATHS, MARKER_PATHS, arrow, coloured_hatch, line, outlined, series_paths

CAPPED_NAME = "interval goes on beyond the axis"


def figure_svg(figure: Figure) -> str:
    """The figure as one ``<svg>`` element, without legend and axis titles; text in it is escaped."""
    layout = FigureLayout(figure)
    ideal = list(_ideal(figure, layout))
    figure = dodge_series(figure, layout.x)
    clip = f"{escape(figure.key)}-clip"
    clip_path = (
        f'<clipPath id="{clip}"><rect x="{layout.left - 6}" y="{layout.top - 6}" '
        f'width="{layout.right - layout.left + 14}" height="{layout.bottom - layout.top + 12}"/></clipPath>'
    )
    elements = [*ideal, *series_paths(figure, layout)]
    return (
        f'<svg class="static" viewBox="0 0 {layout.width} {layout.height}" preserveAspectRatio="xMinYMid" fill="none" '
        f'aria-hidden="true">{clip_path}{_window(figure, layout)}{_axes(layout)}'
        f'<g clip-path="url(#{clip})">{"".join(elements)}</g></svg>'
    )


def swatch(style: SeriesStyle, series: Series, figure: Figure) -> str:
    """The symbol of a series in the legend."""
    if figure.bars:
        hatch = coloured_hatch(style, HATCH_PATHS[style.pattern], 'transform="translate(8)scale(2)"')
        return _swatch(outlined("M9 1H21V11H9z", style) + hatch)
    if figure.stacked:
        hatch = f'<path d="{HATCH_PATHS[style.pattern]}" transform="translate(8)scale(2)" class="hatch"/>'
        return _swatch(f'<rect width="14" height="12" x="8" fill="{style.colour}"/>{hatch if style.pattern else ""}')
    drawn = "" if series.mark == "markers" else line("M0 6H30", style, 2 if has_markers(series) else 1.5)
    marker = f'<path transform="translate(15 6)" d="{MARKER_PATHS[style.marker]}" fill="{style.colour}"/>'
    return _swatch(drawn + (marker if has_markers(series) else ""))


def legend_entries(figure: Figure) -> list[tuple[str, str]]:
    """A symbol and a name for each series, in drawing order, then for the ideal line and the measured window.

    The axis has the names of bars alone over their categories. Fitted lines of curves of the figure, which have their
    colours, have one entry for each law: the curves are named already.
    """
    own: dict[str, str] = {}
    names = {series.name for series in figure.series}
    for series, style in zip(figure.series, series_styles(figure), strict=True):
        curve, _, law = series.name.rpartition(": ")
        if series.mark == "fitted" and curve in names:
            own.setdefault(law, swatch(replace(series.style, colour=NEUTRAL_COLOUR), series, figure))
        elif not is_named_by_category(figure):
            own[series.name] = swatch(style, series, figure)
    own |= {name: drawn for drawn, name in extra_swatches(figure)}
    return [(drawn, name) for name, drawn in own.items()]


def extra_swatches(figure: Figure) -> list[tuple[str, str]]:
    """The symbols and names of the ideal line, the measured window and capped intervals, where the figure has them."""
    ideal = _swatch(line("M0 6H30", SeriesStyle(NEUTRAL_COLOUR, IDEAL_DASH, "", ""), 1.5))
    window = _swatch('<rect class="window" width="30" height="12"/>')
    capped = _swatch(f'<path d="M15 12V2{arrow(15, 1, 0, 1)}" fill="{NEUTRAL_COLOUR}" stroke="{NEUTRAL_COLOUR}"/>')
    return [
        *([(ideal, figure.ideal_name)] if figure.ideal else []),
        *([(window, "measured window")] if figure.window else []),
        *([(capped, CAPPED_NAME)] if has_capped(figure, y_axis(figure)) else []),
    ]


def _swatch(drawn: str) -> str:
    return f'<svg viewBox="0 0 30 12" aria-hidden="true">{drawn}</svg>'


def _axes(layout: FigureLayout) -> str:
    """Grid lines, the line from which values start, and the labels of both axes."""
    if layout.rows:
        return _axes_of_rows(layout)
    values = [(layout.place(layout.x.low, y)[1], name) for y, name in layout.y.ticks]
    grid = "".join(f"M{layout.left} {pixels(down)}H{layout.right}" for down, _ in values)
    labels = [_text(layout.left - 8, down + 4, name, "end") for down, name in values]
    marks = ""
    for (x, _), lines in zip(layout.x.ticks, layout.labels, strict=True):
        across = layout.place(x, layout.y.low)[0]
        marks += f"M{pixels(across)} {layout.bottom}v4"
        labels += [_text(across, layout.bottom + 18 + LINE_PX * row, line, "middle") for row, line in enumerate(lines)]
    return _grid(grid, f"M{layout.left} {layout.bottom}H{layout.right}{marks}", labels)


def _axes_of_rows(layout: FigureLayout) -> str:
    values = [(layout.place(layout.x.low, y)[0], name) for y, name in layout.y.ticks]
    grid = "".join(f"M{pixels(across)} {layout.top}V{layout.bottom}" for across, _ in values)
    labels = [_text(across, layout.bottom + 18, name, "middle") for across, name in values]
    for (x, _), lines in zip(layout.x.ticks, layout.labels, strict=True):
        first = layout.place(x, layout.y.low)[1] + 4 - LINE_PX * (len(lines) - 1) / 2
        labels += [_text(layout.left - 8, first + LINE_PX * row, line, "end") for row, line in enumerate(lines)]
    return _grid(grid, f"M{layout.left} {layout.top}V{layout.bottom}", labels)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{pixels(x)}" y="{pixels(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _grid(grid: str, ground: str, labels: Sequence[str]) -> str:
    return f'<path class="grid" d="{grid}"/><path class="ground" d="{ground}"/><g class="ticks">{"".join(labels)}</g>'


def _window(figure: Figure, layout: FigureLayout) -> str:
    if figure.window is None:
        return ""
    return f'<path class="window" d="{layout.box(figure.window, (layout.y.low, layout.y.high))}"/>'


def _ideal(figure: Figure, layout: FigureLayout) -> Iterator[str]:
    points = [layout.point(x, y) for x, y in ideal_line(figure) if layout.is_drawable(x, y)]
    if points:
        yield line("M" + "L".join(points), SeriesStyle(NEUTRAL_COLOUR, IDEAL_DASH, "", ""), 1.5)
