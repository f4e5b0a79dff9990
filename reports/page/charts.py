"""Figures of the page model as plotly figures. Colours carry in light and dark; dash and marker tell them apart too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.page.values import Figure, Series

# At least 3:1 against white and against the dark page (#14171c).
COLOURS = ("#0b7fc7", "#d55e00", "#0a8f6a", "#b5588c", "#7d6fd1", "#8a7a1f", "#c2414b", "#5c7d8a")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
PATTERNS = ("", "/", "x", ".", "\\", "-")
GRID = "rgba(128,128,128,0.28)"
INK = "#7a828c"
MOST_TICKS = 12


def draw(figure: Figure) -> dict[str, Any]:
    """The plotly figure as plain data: ``{"data": […], "layout": {…}}``."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    if figure.stacked:
        return _draw_bars(figure, go)
    if figure.ideal:
        drawn.add_trace(_ideal(figure, go))
    for series in figure.series:
        drawn.add_trace(_trace(_with_gaps(series) if figure.categories else series, go))
    ticks = sorted({x for series in figure.series if series.look != "fitted" for x in series.x})
    layout = _layout(figure)
    layout["xaxis"] |= {"type": "log"} if figure.log_x else {"tickvals": ticks}
    layout["xaxis"] |= _category_ticks(figure.categories) if figure.categories else {}
    layout["yaxis"] |= {"type": "log"} if figure.log_y else {"rangemode": "tozero"}
    layout["yaxis"] |= {"tickformat": ".0%"} if figure.percent else {}
    drawn.update_layout(**layout)
    return dict(drawn.to_plotly_json())


def _draw_bars(figure: Figure, go: Any) -> dict[str, Any]:
    """Layers are told apart by pattern as well as by colour."""
    drawn = go.Figure()
    for series in figure.series:
        pattern = {"shape": PATTERNS[series.style % len(PATTERNS)], "fgcolor": "rgba(255,255,255,0.7)",
                   "fillmode": "overlay", "size": 6}  # fmt: skip
        marker = {"color": COLOURS[series.style % len(COLOURS)], "pattern": pattern}
        names = [figure.categories[int(x)] for x in series.x]
        drawn.add_trace(go.Bar(x=names, y=list(series.y), name=series.name, marker=marker,
                               hovertemplate="%{y:.3g} ms, %{x}<extra>%{fullData.name}</extra>"))  # fmt: skip
    drawn.update_layout(barmode="stack", **_layout(figure))
    drawn.update_layout(legend_traceorder="normal")
    return dict(drawn.to_plotly_json())


def _layout(figure: Figure) -> dict[str, Any]:
    """What all charts share."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    return {
        "template": "none",
        "height": 340,
        "margin": {"l": 60, "r": 12, "t": 34, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": INK},
        "xaxis": {**axis, "title": {"text": figure.x_title}},
        "yaxis": {**axis, "title": {"text": figure.y_title}},
    }


def _trace(series: Series, go: Any) -> Any:
    if series.look == "fitted":
        line = {"color": COLOURS[series.style % len(COLOURS)], "width": 1, "dash": "dot"}
        return go.Scatter(x=list(series.x), y=list(series.y), name=series.name, mode="lines", line=line,
                          hovertemplate="%{y:.4g} at %{x:.3g}<extra>%{fullData.name}</extra>")  # fmt: skip
    known = all(low is not None for low, y in zip(series.low, series.y, strict=True) if y is not None)
    errors = None
    if any(high is not None for high in series.high):
        above = [0 if high is None else high - y for y, high in zip(series.y, series.high, strict=True)]
        below = [0 if low is None else y - low for y, low in zip(series.y, series.low, strict=True)]
        errors = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 5}
    symbol = MARKERS[series.style % len(MARKERS)]
    return go.Scatter(
        x=list(series.x),
        y=list(series.y),
        error_y=errors,
        name=series.name,
        mode="lines+markers",
        line={"color": COLOURS[series.style % len(COLOURS)], "dash": DASHES[series.style % len(DASHES)], "width": 2},
        marker={"symbol": [f"{symbol}-open" if hollow else symbol for hollow in series.hollow], "size": 9},
        hovertemplate="%{y:.4g} at %{x}" + ("" if known else " (interval unknown)") + "<extra>%{fullData.name}</extra>",
    )


def _with_gaps(series: Series) -> Series:
    """Over categories a line breaks where one has no point: the categories between are filled with nothing."""
    if not series.x:
        return series
    points = dict(zip(series.x, zip(series.y, series.low, series.high, series.hollow, strict=True), strict=True))
    every = tuple(float(x) for x in range(int(series.x[0]), int(series.x[-1]) + 1))
    y, low, high, hollow = zip(*(points.get(x, (None, None, None, False)) for x in every), strict=True)
    return replace(series, x=every, y=y, low=low, high=high, hollow=hollow)


def _category_ticks(categories: Sequence[str]) -> dict[str, Any]:
    """The names of at most a dozen categories, evenly spaced."""
    numbers = range(0, len(categories), math.ceil(len(categories) / MOST_TICKS))
    return {"tickvals": list(numbers), "ticktext": [categories[number] for number in numbers]}


def _ideal(figure: Figure, go: Any) -> Any:
    ends = sorted({x for series in figure.series for x in series.x}) or [1.0]
    values = ends if figure.ideal == "linear" else [1.0 for _ in ends]
    line = {"color": INK, "dash": "dot", "width": 1.5}
    return go.Scatter(x=ends, y=values, name="ideal", mode="lines", line=line, hoverinfo="skip")
