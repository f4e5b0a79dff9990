"""The series of a figure as traces of plotly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from bench.core.text import printable
from reports.page.dodge import bar_width, dodge_series
from reports.page.elements import Figure, Series
from reports.page.figure_axes import ideal_line
from reports.page.hover import hover_text
from reports.page.layout import FigureLayout
from reports.page.palette import IDEAL_DASH, NEUTRAL_COLOUR, SeriesStyle
from reports.page.spans import Span, spans, thinned
from reports.page.styles import (
    BAR_OPACITY,
    HOLLOW_OPACITY,
    MAX_MARKED_POINTS,
    has_band,
    has_markers,
    series_styles,
)

HOVER_TEXT = "%{text}<extra></extra>"
LONG_HOVER_TEXT = "%{fullData.name}<br>%{y:.3~s} at %{x:.4~r}<extra></extra>"
"""Of curves of many points, for which texts would take much of the page."""
LONG_HOVER_PERCENT = "%{fullData.name}<br>%{y:.0%} at %{x:.4~r}<extra></extra>"

MAX_BAND_POINTS = 250
"""Of one side of a band: more than two in three pixels can't be seen, and slow a browser down."""
Trace = dict[str, Any]


def figure_traces(figure: Figure, layout: FigureLayout) -> list[Trace]:
    """One trace for each series, in order, then bands, marks of capped intervals, and the ideal line."""
    styles = series_styles(figure)
    drawn = dodge_series(figure, layout.x)
    pairs = list(zip(drawn.series, styles, strict=True))
    make = _layer if figure.stacked else _bar if figure.bars else _curve
    traces = [make(series, style, figure) for series, style in pairs]
    for trace, series, shown in zip(traces, figure.series, drawn.series, strict=True):
        trace |= _hover(figure, series, shown)
    extra: list[Trace] = []
    if not figure.stacked:
        for trace, (series, style) in zip(traces, pairs, strict=True):
            own = spans(series, layout.y)
            if has_band(series) and not figure.bars:
                extra += _band(own, style)
            elif own:
                trace["error_y"] = _intervals(series, own) | {"color": style.colour}
                extra += _caps(own, style)
    every = [*traces, *extra, *_ideal(figure)]
    return [_transposed(trace) for trace in every] if layout.rows else every


def literal(text: str) -> str:
    """Text for plotly.js, which reads ``<b>``, ``<br>`` and ``<a href=…>`` in every label, also as links."""
    return escape(printable(text), quote=False)


def _layer(layer: Series, style: SeriesStyle, figure: Figure) -> Trace:
    pattern = {"shape": style.pattern, "fgcolor": "rgba(255,255,255,0.75)", "fillmode": "overlay", "size": 6}
    return {
        "type": "bar",
        "name": literal(layer.name),
        "x": _x_values(layer.x),
        "y": _y_values(layer.y),
        "textposition": "none",
        "marker": {"color": style.colour, "pattern": pattern},
    }


def _bar(series: Series, style: SeriesStyle, figure: Figure) -> Trace:
    opacities = [HOLLOW_OPACITY if hollow else BAR_OPACITY for hollow in series.hollow]
    return {
        "type": "bar",
        "name": literal(series.name),
        "x": _x_values(series.x),
        "y": _y_values(series.y),
        "width": rounded(bar_width(figure), 3),
        "textposition": "none",
        "marker": {
            "color": [_transparent(style.colour, opacity) for opacity in opacities],
            "line": {"color": style.colour, "width": 1},
            "pattern": {"shape": style.pattern, "fgcolor": style.colour, "fillmode": "overlay", "size": 6},
        },
    }


def _curve(series: Series, style: SeriesStyle, figure: Figure) -> Trace:
    lines = "" if series.mark == "markers" else "lines"
    markers = "markers" if has_markers(series) else ""
    trace: Trace = {
        "type": "scatter",
        "name": literal(series.name),
        "x": _x_values(series.x),
        "y": _y_values(series.y),
        "mode": "+".join(filter(None, (lines, markers))),
        "line": {"color": style.colour, "dash": _dash_text(style.dash), "width": 2 if markers else 1.5},
    }
    if markers:
        shape = [f"{style.marker}-open" if hollow else style.marker for hollow in series.hollow]
        size = 9 if len(series.x) <= MAX_MARKED_POINTS else 5
        trace["marker"] = {"symbol": shape if any(series.hollow) else style.marker, "size": size, "color": style.colour}
    return trace


def _hover(figure: Figure, series: Series, drawn: Series) -> Trace:
    """The tooltips of a series; ``drawn``: set apart, with gaps where categories have no point."""
    if len(series.x) > MAX_MARKED_POINTS:
        return {"hovertemplate": LONG_HOVER_PERCENT if figure.percent else LONG_HOVER_TEXT}
    has_gaps = len(drawn.x) > len(series.x)
    remaining = iter(range(len(series.x)))
    shown = [
        "" if has_gaps and math.isnan(y) else "<br>".join(map(literal, hover_text(figure, series, next(remaining))))
        for y in drawn.y
    ]
    return {"text": shown, "hovertemplate": HOVER_TEXT}


def _intervals(series: Series, own: Sequence[Span]) -> Trace:
    """The lengths of the intervals above and below the points, within the axis."""
    remaining = iter(own)
    above, below = [], []
    for y, low, high in zip(series.y, series.low, series.high, strict=True):
        span = None if low is None or high is None else next(remaining)
        above.append(0 if span is None else rounded(span.high - y, 3))
        below.append(0 if span is None else rounded(y - span.low, 3))
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 0}


def _caps(own: Sequence[Span], style: SeriesStyle) -> Iterator[Trace]:
    """Arrows where intervals go on beyond the axis."""
    for symbol, ends in (
        ("triangle-up", [(span.x, span.high) for span in own if span.above]),
        ("triangle-down", [(span.x, span.low) for span in own if span.below]),
    ):
        if ends:
            x, y = zip(*ends, strict=True)
            yield {
                "type": "scatter",
                "x": _x_values(x),
                "y": _y_values(y),
                "mode": "markers",
                "marker": {"symbol": symbol, "size": 8, "color": style.colour},
                "cliponaxis": False,
                "hoverinfo": "skip",
            }


def _band(own: Sequence[Span], style: SeriesStyle) -> Iterator[Trace]:
    """A filled outline between the ends of a curve's intervals."""
    own = thinned(own, MAX_BAND_POINTS)
    if len(own) > 1:
        yield {
            "type": "scatter",
            "x": _x_values([span.x for span in (*own, *own[::-1])]),
            "y": _y_values([*(span.high for span in own), *(span.low for span in own[::-1])]),
            "mode": "lines",
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": _transparent(style.colour, 0.15),
            "hoverinfo": "skip",
        }


def _ideal(figure: Figure) -> Iterator[Trace]:
    points = ideal_line(figure)
    if points:
        x, y = zip(*points, strict=True)
        yield {
            "type": "scatter",
            "x": _x_values(x),
            "y": _y_values(y),
            "name": figure.ideal_name,
            "mode": "lines",
            "line": {"color": NEUTRAL_COLOUR, "dash": _dash_text(IDEAL_DASH), "width": 1.5},
            "hoverinfo": "skip",
        }


ARROWS = {"triangle-up": "triangle-right", "triangle-down": "triangle-left"}


def _transposed(trace: Trace) -> Trace:
    """The trace in a figure whose categories are rows."""
    turned = {**trace, "x": trace["y"], "y": trace["x"]}
    if trace["type"] == "bar":
        turned["orientation"] = "h"
    if "error_y" in turned:
        turned["error_x"] = turned.pop("error_y")
    marker = trace.get("marker", {})
    if trace.get("hoverinfo") == "skip" and marker.get("symbol") in ARROWS:
        turned["marker"] = {**marker, "symbol": ARROWS[marker["symbol"]]}
    return turned


def _transparent(colour: str, opacity: float) -> str:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgba{(red, green, blue, opacity)}"


def _dash_text(dash: Sequence[int]) -> str:
    return ",".join(f"{length}px" for length in dash) or "solid"


def _x_values(values: Sequence[float]) -> list[float | None]:
    """Values of ``x``, whose axis may begin far from 0."""
    return [rounded(value, 7) for value in values]


def _y_values(values: Sequence[float]) -> list[float | None]:
    """Values of ``y``: on an axis from 0 the fifth digit is below a pixel, and without it the page is far smaller."""
    return [rounded(value, 4) for value in values]


def rounded(value: float, digits: int) -> float | None:
    """Rounded to significant digits; whole numbers keep all; ``None`` for NaN and infinities, which JSON lacks."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.{digits}g}")
