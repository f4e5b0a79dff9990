"""Figures as plotly figures: plain data for plotly.js, with the styles and axes of the static SVG figures."""

from __future__ import annotations

import math
from typing import Any

from reports.page.elements import Figure
from reports.page.layout import BOTTOM, LABEL_ANGLE, LEFT, RIGHT, TOP, Axis, FigureLayout
from reports.page.palette import NEUTRAL_COLOUR
from reports.page.plotly_traces import figure_traces, literal, rounded
from reports.page.styles import (
    dodge_series,
)

GRID_COLOUR = "rgba(128,128,128,0.22)"
WINDOW_COLOUR = "rgba(128,128,128,0.14)"
TEXT_COLOUR = "#5b6470"
"""The page overrides it for its light and dark scheme."""


def plotly_figure(figure: Figure) -> dict[str, Any]:
    """``{"data": […], "layout": {…}}``: the traces of :func:`reports.page.plotly_traces.figure_traces`."""
    figure = dodge_series(figure)
    return {"data": figure_traces(figure), "layout": _layout(figure)}


def _layout(figure: Figure) -> dict[str, Any]:
    """Without legend and axis titles: those are HTML of the page, so that they wrap and need no JavaScript."""
    figure_layout = FigureLayout(figure)
    x, y = figure_layout.x, figure_layout.y
    names = ["<br>".join(map(literal, lines)) for lines in figure_layout.labels]
    x_layout = _axis(x) | {"tickvals": [rounded(at, 7) for at, _ in x.ticks], "ticktext": names}
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
            "tickvals": [rounded(at, 7) for at, _ in y.ticks],
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
        "range": [rounded(end, 7) for end in ends],
        "gridcolor": GRID_COLOUR,
        "zeroline": False,
        "linecolor": NEUTRAL_COLOUR,
        "showline": True,
        "ticks": "outside",
        "tickcolor": NEUTRAL_COLOUR,
        "ticklen": 4,
        "exponentformat": "SI",
    }
