"""The series of a figure as traces of plotly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from bench.core.text import printable
from reports.page.elements import Figure, Series
from reports.page.layout import ideal_line
from reports.page.palette import IDEAL_DASH, NEUTRAL_COLOUR, SeriesStyle
from reports.page.styles import (
    BAR_OPACITY,
    HOLLOW_OPACITY,
    MAX_MARKED_POINTS,
    bar_width,
    has_band,
    has_markers,
    series_styles,
)


def figure_traces(figure: Figure) -> list[dict[str, Any]]:
    """One trace for each series, in order, then bands and the ideal line; ``figure``: with its series set apart."""
    styles = series_styles(figure)
    make = _layer if figure.stacked else _bar_with_interval if figure.bars else _curve
    traces = [make(series, style, figure) for series, style in zip(figure.series, styles, strict=True)]
    bands = [band for series, style in zip(figure.series, styles, strict=True) if (band := _band(series, style))]
    return [*traces, *bands, *_ideal(figure)]


def literal(text: str) -> str:
    """Text for plotly.js, which reads ``<b>``, ``<br>`` and ``<a href=…>`` in every label, also as links."""
    return escape(printable(text), quote=False)


def _layer(layer: Series, style: SeriesStyle, figure: Figure) -> dict[str, Any]:
    pattern = {"shape": style.pattern, "fgcolor": "rgba(255,255,255,0.75)", "fillmode": "overlay", "size": 6}
    return {
        "type": "bar",
        "name": literal(layer.name),
        "x": _x_values(layer.x),
        "y": _y_values(layer.y),
        "text": _hover_texts(layer, figure),
        "textposition": "none",
        "marker": {"color": style.colour, "pattern": pattern},
        "hovertemplate": "%{y:,.4~r}<br>%{text}<extra>%{fullData.name}</extra>",
    }


def _bar_with_interval(series: Series, style: SeriesStyle, figure: Figure) -> dict[str, Any]:
    opacities = [HOLLOW_OPACITY if hollow else BAR_OPACITY for hollow in series.hollow]
    return {
        "type": "bar",
        "name": literal(series.name),
        "x": _x_values(series.x),
        "y": _y_values(series.y),
        "width": rounded(bar_width(figure), 3),
        "text": _hover_texts(series, figure),
        "textposition": "none",
        "marker": {
            "color": [_transparent(style.colour, opacity) for opacity in opacities],
            "line": {"color": style.colour, "width": 1},
            "pattern": {"shape": style.pattern, "fgcolor": style.colour, "fillmode": "overlay", "size": 6},
        },
        "hovertemplate": f"{_value_format(figure)}<br>%{{text}}<extra>%{{fullData.name}}</extra>",
        **({"error_y": _intervals(series) | {"color": style.colour}} if _has_intervals(series) else {}),
    }


def _has_intervals(series: Series) -> bool:
    return any(high is not None for high in series.high)


def _value_format(figure: Figure) -> str:
    return "%{y:.1%}" if figure.percent else "%{y:,.4~r}"


def _transparent(colour: str, opacity: float) -> str:
    return f"rgba{(*_rgb(colour), opacity)}"


def _curve(series: Series, style: SeriesStyle, figure: Figure) -> dict[str, Any]:
    lines = "" if series.mark == "markers" else "lines"
    markers = "markers" if has_markers(series) else ""
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": literal(series.name),
        "x": _x_values(series.x),
        "y": _y_values(series.y),
        "mode": "+".join(filter(None, (lines, markers))),
        "line": {"color": style.colour, "dash": _dash_text(style.dash), "width": 2 if markers else 1.5},
    }
    text = _hover_texts(series, figure)
    over = "" if figure.categories else " at %{x:,.4~r}"
    shown = _value_format(figure)
    texts = "<br>%{text}" if any(text) else ""
    trace["hovertemplate"] = f"{shown}{over}{texts}<extra>%{{fullData.name}}</extra>"
    if texts:
        trace["text"] = text
    if markers:
        shape = [f"{style.marker}-open" if hollow else style.marker for hollow in series.hollow]
        size = 9 if len(series.x) <= MAX_MARKED_POINTS else 5
        trace["marker"] = {"symbol": shape if any(series.hollow) else style.marker, "size": size, "color": style.colour}
    if not has_band(series) and _has_intervals(series):
        trace["error_y"] = _intervals(series)
    return trace


def _intervals(series: Series) -> dict[str, Any]:
    above = [0 if high is None else rounded(high - y, 3) for y, high in zip(series.y, series.high, strict=True)]
    below = [0 if low is None else rounded(y - low, 3) for y, low in zip(series.y, series.low, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 0}


def _hover_texts(series: Series, figure: Figure) -> list[str]:
    """The hover text of each point beside its coordinates; none where there are many points."""
    if len(series.x) > MAX_MARKED_POINTS:
        return []
    shown: Callable[[float], str] = (lambda y: f"{100 * y:.3g} %") if figure.percent else (lambda y: f"{y:.4g}")
    texts = []
    for x, low, high in zip(series.x, series.low, series.high, strict=True):
        parts = [literal(figure.categories[round(x)])] if figure.categories else []
        if low is not None and high is not None:
            parts.append(f"interval {shown(low)} to {shown(high)}")
        elif series.mark == "points" and not figure.stacked:
            parts.append("interval unknown")
        texts.append("<br>".join(parts))
    return texts


def _band(series: Series, style: SeriesStyle) -> dict[str, Any] | None:
    """A filled outline between ``low`` and ``high`` of a curve that has both."""
    spans = [
        (x, low, high)
        for x, low, high in zip(series.x, series.low, series.high, strict=True)
        if low is not None and high is not None
    ]
    if not has_band(series) or len(spans) < 2:
        return None
    x, low, high = zip(*spans, strict=True)
    return {
        "type": "scatter",
        "x": _x_values([*x, *x[::-1]]),
        "y": _y_values([*high, *low[::-1]]),
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": _transparent(style.colour, 0.15),
        "hoverinfo": "skip",
    }


def _ideal(figure: Figure) -> list[dict[str, Any]]:
    points = ideal_line(figure)
    if not points:
        return []
    x, y = zip(*points, strict=True)
    line = {"color": NEUTRAL_COLOUR, "dash": _dash_text(IDEAL_DASH), "width": 1.5}
    return [
        {
            "type": "scatter",
            "x": _x_values(x),
            "y": _y_values(y),
            "name": figure.ideal_name,
            "mode": "lines",
            "line": line,
            "hoverinfo": "skip",
        }
    ]


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


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
