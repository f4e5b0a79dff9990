"""Figures as plotly figures: plain data for plotly.js, with the styles and axes of the static SVG figures.

And plotly.js itself: the small bundle where it was fetched, else the full library of plotly's Python package.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from bench.core.text import printable
from bench.host.installation import cache_folder
from reports.page.elements import Figure, Series
from reports.page.layout import BOTTOM, LABEL_ANGLE, LEFT, RIGHT, TOP, Axis, FigureLayout, ideal_line
from reports.page.styles import (
    BAR_OPACITY,
    HOLLOW_OPACITY,
    IDEAL_DASH,
    MAX_MARKED_POINTS,
    NEUTRAL_COLOUR,
    SeriesStyle,
    bar_width,
    dodge_series,
    has_band,
    has_markers,
    series_styles,
)

GRID_COLOUR = "rgba(128,128,128,0.22)"
WINDOW_COLOUR = "rgba(128,128,128,0.14)"
TEXT_COLOUR = "#5b6470"
"""The page overrides it for its light and dark scheme."""


def plotly_figure(figure: Figure) -> dict[str, Any]:
    """``{"data": […], "layout": {…}}``: one trace for each series, in order, then bands and the ideal line."""
    figure = dodge_series(figure)
    styles = series_styles(figure)
    make = _layer if figure.stacked else _bar_with_interval if figure.bars else _curve
    traces = [make(series, style, figure) for series, style in zip(figure.series, styles, strict=True)]
    bands = [band for series, style in zip(figure.series, styles, strict=True) if (band := _band(series, style))]
    return {"data": [*traces, *bands, *_ideal(figure)], "layout": _layout(figure)}


def literal(text: str) -> str:
    """Text for plotly.js, which reads ``<b>``, ``<br>`` and ``<a href=…>`` in every label, also as links."""
    return escape(printable(text), quote=False)


def _layout(figure: Figure) -> dict[str, Any]:
    """Without legend and axis titles: those are HTML of the page, so that they wrap and need no JavaScript."""
    figure_layout = FigureLayout(figure)
    x, y = figure_layout.x, figure_layout.y
    names = ["<br>".join(map(literal, lines)) for lines in figure_layout.labels]
    x_layout = _axis(x) | {"tickvals": [_rounded(at, 7) for at, _ in x.ticks], "ticktext": names}
    # Automatic margins make plotly draw two or three times: only names of categories may need them.
    x_layout |= {"automargin": True} if figure.categories else {}
    if figure_layout.slanted or not figure.wide:
        x_layout |= {"tickangle": LABEL_ANGLE if figure_layout.slanted else 0, "ticklabeloverflow": "allow"}
    else:
        # On a narrow screen they no longer fit side by side.
        x_layout |= {"autotickangles": [0, LABEL_ANGLE], "ticklabeloverflow": "allow"}
    y_layout = _axis(y) | {"ticks": "", "showline": False}
    if y.log:
        y_layout |= {
            "tickvals": [_rounded(at, 7) for at, _ in y.ticks],
            "ticktext": [literal(name) for _, name in y.ticks],
        }
    if figure.percent:
        y_layout["tickformat"] = ".0%"
    layout: dict[str, Any] = {
        "template": "none",
        "margin": {"l": LEFT, "r": RIGHT, "t": TOP, "b": BOTTOM},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": TEXT_COLOUR},
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": x_layout | {"showgrid": False},
        "yaxis": y_layout,
    }
    if figure.stacked:
        layout |= {"barmode": "stack", "bargap": 0.28 if len(figure.categories) > 2 else 0.6}
    if figure.bars:
        layout |= {"barmode": "overlay"}
    if figure.window:
        left, right = figure.window
        layout["shapes"] = [
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": left,
                "x1": right,
                "y0": 0,
                "y1": 1,
                "fillcolor": WINDOW_COLOUR,
                "line": {"width": 0},
                "layer": "below",
            }
        ]
    return layout


def _axis(axis: Axis) -> dict[str, Any]:
    ends = [math.log10(end) if axis.log else end for end in (axis.low, axis.high)]
    return {
        "type": "log" if axis.log else "linear",
        "range": [_rounded(end, 7) for end in ends],
        "gridcolor": GRID_COLOUR,
        "zeroline": False,
        "linecolor": NEUTRAL_COLOUR,
        "showline": True,
        "ticks": "outside",
        "tickcolor": NEUTRAL_COLOUR,
        "ticklen": 4,
        "exponentformat": "SI",
    }


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
        "width": _rounded(bar_width(figure), 3),
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
    above = [0 if high is None else _rounded(high - y, 3) for y, high in zip(series.y, series.high, strict=True)]
    below = [0 if low is None else _rounded(y - low, 3) for y, low in zip(series.y, series.low, strict=True)]
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
    return [_rounded(value, 7) for value in values]


def _y_values(values: Sequence[float]) -> list[float | None]:
    """Values of ``y``: on an axis from 0 the fifth digit is below a pixel, and without it the page is far smaller."""
    return [_rounded(value, 4) for value in values]


def _rounded(value: float, digits: int) -> float | None:
    """Rounded to significant digits; whole numbers keep all; ``None`` for NaN and infinities, which JSON lacks."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.{digits}g}")


NPM_PACKAGE = "plotly.js-basic-dist-min"
BUNDLE_FILE = "package/plotly-basic.min.js"
PLOTLY_JS_VERSION = "4.1.1"
"""The plotly.js of plotly 7.1.0. The bundle has scatter and bar charts, at a quarter of the full size."""
BUNDLE_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
FETCH_COMMAND = "python -m harness.setup.plotly_bundle"


@dataclass(frozen=True)
class PlotlyJs:
    """The JavaScript library; ``name`` says which version and bundle."""

    name: str
    text: str


def bundle_file() -> Path:
    """Where the bundle is cached once it was fetched."""
    return cache_folder("npm") / f"{NPM_PACKAGE}-{PLOTLY_JS_VERSION}.js"


@cache
def plotly_library() -> PlotlyJs:
    """The library that pages of this process contain."""
    bundle = read_bundle(bundle_file())
    return whole_library() if bundle is None else PlotlyJs(f"plotly.js {PLOTLY_JS_VERSION}, basic bundle", bundle)


def whole_library() -> PlotlyJs:
    """plotly.js of the Python package: all kinds of charts, four times the size."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    return PlotlyJs(f"plotly.js {get_plotlyjs_version()}, whole", get_plotlyjs())


def read_bundle(path: Path) -> str | None:
    """The text of the cached bundle; ``None`` where it is missing, or its hash is not that of the published one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content.decode() if hashlib.sha256(content).hexdigest() == BUNDLE_SHA256 else None
