"""Figures as plotly figures: plain data for plotly.js, with the styles and axes of the static SVG figures."""

from __future__ import annotations

import math
from typing import Any

from reports.page.elements import Figure
from reports.page.figure_axes import Axis, value_title
from reports.page.layout import BOTTOM, RIGHT, FigureLayout
from reports.page.palette import NEUTRAL_COLOUR
from reports.page.plotly_traces import figure_traces, literal, rounded

GRID_COLOUR = "rgba(128,128,128,0.22)"
WINDOW_COLOUR = "rgba(128,128,128,0.14)"
TEXT_COLOUR = "#5b6470"
"""The page overrides it for its light and dark scheme."""
LABEL_ANGLE = -40
"""Degrees, for the names of nights that do not fit side by side on a narrow screen."""


def plotly_figure(figure: Figure) -> dict[str, Any]:
    """``{"data": […], "layout": {…}}``: the traces of :func:`reports.page.plotly_traces.figure_traces`."""
    layout = FigureLayout(figure)
    return {"data": figure_traces(figure, layout), "layout": _layout(figure, layout)}


def axis_titles(figure: Figure) -> tuple[str, str]:
    """The titles of the horizontal and of the vertical axis."""
    titles = figure.x_title, value_title(figure)
    return titles[::-1] if FigureLayout(figure).rows else titles


def _layout(figure: Figure, own: FigureLayout) -> dict[str, Any]:
    """Without legend and axis titles: those are HTML of the page, so that they wrap and need no JavaScript."""
    places, values = _axis_of_places(figure, own), _axis_of_values(own)
    layout: dict[str, Any] = {
        "template": "none",
        "margin": {"l": own.left, "r": RIGHT, "t": own.top, "b": BOTTOM},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": TEXT_COLOUR},
        "hoverlabel": {"font": {"size": 10.5}, "namelength": 0},
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": values if own.rows else places,
        "yaxis": places if own.rows else values,
    }
    if figure.stacked:
        layout |= {"barmode": "stack", "bargap": 0.28 if len(figure.categories) > 2 else 0.6}
    if figure.bars:
        layout |= {"barmode": "overlay"}
    if figure.window:
        layout["shapes"] = [_shaded(*figure.window)]
    return layout


def _axis_of_places(figure: Figure, own: FigureLayout) -> dict[str, Any]:
    """The axis of ranks, sizes, seconds or categories; as rows, the first category is on top."""
    axis = _axis(own.x) | {
        "tickvals": [rounded(at, 7) for at, _ in own.x.ticks],
        "ticktext": ["<br>".join(map(literal, lines)) for lines in own.labels],
        "showgrid": False,
    }
    if own.rows:
        return axis | {"range": axis["range"][::-1], "ticks": "", "fixedrange": True}
    if figure.wide and figure.categories:
        # Automatic margins make plotly draw two or three times: only names that may be rotated need them.
        return axis | {"automargin": True, "autotickangles": [0, LABEL_ANGLE]}
    return axis | {"tickangle": 0}


def _axis_of_values(own: FigureLayout) -> dict[str, Any]:
    return _axis(own.y) | {
        "tickvals": [rounded(at, 7) for at, _ in own.y.ticks],
        "ticktext": [literal(name) for _, name in own.y.ticks],
        "ticks": "",
        "showline": False,
        "fixedrange": True,
        "tickangle": 0,
    }


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
        # Else plotly measures every label after each drawing, a fifth of its time: margins have room for all.
        "ticklabeloverflow": "allow",
    }


def _shaded(left: float, right: float) -> dict[str, Any]:
    """The measured window, behind all values."""
    return {
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
