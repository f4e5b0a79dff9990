"""The figures of a sweep's page as objects of plotly, which a notebook shows and a program can change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from reports.analysis.cells import Cell
from reports.analysis.findings import analyse_cells
from reports.page.elements import Figure, Section
from reports.page.layout import FigureLayout
from reports.page.plotly_charts import axis_titles, plotly_figure
from reports.page.plotly_traces import literal
from reports.page.sweep_page import make_page

if TYPE_CHECKING:
    import plotly.graph_objects

GROUP = re.compile(r"g\d+-")
"""Begins the keys of a workload's figures on the page."""
MARGINS_PX = {"l": 70, "r": 20, "t": 70, "b": 60}
HEIGHT_PX, LEGEND_LINE_PX = 380, 20
STANDOFF_PX = 12
"""Between the title of an axis and the names of its places."""


def page_figures(cells: Sequence[Cell]) -> dict[str, plotly.graph_objects.Figure]:
    """The figures of the page of some cells, in its order, by section and name: ``synthetic/throughput``.

    Where sections have the same title, what they differ in is part of the name. What a figure shows is also in
    ``figure.layout.meta``.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    page = make_page("", analyse_cells(cells), (), ())
    return {name: PlotlyFigure(_standalone(section, figure)) for name, section, figure in _named(page.sections)}


def _named(sections: Sequence[Section]) -> Iterator[tuple[str, Section, Figure]]:
    shown = [section for section in sections if section.figures]
    titles = Counter(section.title for section in shown)
    taken: Counter[str] = Counter()
    for section in shown:
        title = section.title if titles[section.title] == 1 else f"{section.title} ({section.subtitle})"
        for figure in section.figures:
            name = f"{title}/{GROUP.sub('', figure.key, count=1)}"
            taken[name] += 1
            yield name if taken[name] == 1 else f"{name} {taken[name]}", section, figure


def _standalone(section: Section, figure: Figure) -> dict[str, Any]:
    """The drawing of the page, with the title, legend and names of axes that the page shows around it."""
    drawing = plotly_figure(figure)
    layout = drawing["layout"]
    layout["title"] = {
        "text": literal(f"{section.title}: {figure.title}"),
        "subtitle": {"text": literal(section.subtitle)},
    }
    layout["meta"] = {"section": section.title, "conditions": section.subtitle, "caption": figure.caption}
    layout["margin"] = MARGINS_PX
    layout["height"] = max(HEIGHT_PX, FigureLayout(figure).height) + LEGEND_LINE_PX * len(figure.series)
    layout["showlegend"] = True
    layout["legend"] = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"}
    for axis, title in zip(("xaxis", "yaxis"), axis_titles(figure), strict=True):
        layout[axis] = layout.get(axis, {}) | {
            "title": {"text": literal(title), "standoff": STANDOFF_PX},
            "automargin": True,
        }
    for trace in drawing["data"]:
        # The band of a fitted line belongs to that line.
        trace["showlegend"] = "name" in trace
    return drawing
