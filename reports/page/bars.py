"""A page without curves: bars in place of curves of one point, and no word of scaling where there is one rank count."""

from __future__ import annotations

from dataclasses import replace

from reports.analysis import formatting
from reports.page.elements import Figure, Section, Table
from reports.page.layout import FigureLayout, value_label

LINES = ("points", "fitted")
"""The marks of series that are drawn as lines."""


SCALING_COLUMNS = ("scaling", "speed-up (95 %)", "efficiency (95 %)", "computation scaling", "unexplained")
"""Columns of tables that say how a backend scales, or how it was asked to."""


def without_curves(section: Section, *, scaling: bool) -> Section:
    """A section with bars in place of curves of one point; without ``scaling`` its tables have no columns of that."""
    figures = tuple(map(bars_for_points, section.figures))
    if scaling:
        return replace(section, figures=figures)
    return replace(
        section,
        figures=tuple(replace(figure, table=_without_scaling(figure.table)) for figure in figures),
        tables=tuple(map(_without_scaling, section.tables)),
    )


def _without_scaling(table: Table) -> Table:
    return table.with_columns([number for number, name in enumerate(table.header) if name not in SCALING_COLUMNS])


def bars_for_points(figure: Figure) -> Figure:
    """A figure whose curves have one point each, as bars over their names; any other figure as it is.

    The bars have the colours of the curves. Where all points have the same ``x``, the axis says it once; else each name
    has its own.
    """
    curves = [series for series in figure.series if series.x]
    is_curve = (
        figure.categories or figure.window or any(len(series.x) > 1 or series.mark not in LINES for series in curves)
    )
    if not curves or is_curve:
        return figure
    places = dict.fromkeys(_place(series.x[0], figure.x_title) for series in curves)
    names = (
        series.name if len(places) == 1 else f"{series.name}, {_place(series.x[0], figure.x_title)}"
        for series in curves
    )
    bars = replace(
        figure,
        x_title=f"at {next(iter(places))}" if len(places) == 1 else "",
        series=tuple(replace(series, x=(float(number),), mark="points") for number, series in enumerate(curves)),
        categories=tuple(names),
        bars=True,
        log_x=False,
        log_y=False,
    )
    # Long names have room in the whole width of the page.
    return replace(bars, wide=True) if FigureLayout(bars).slanted else bars


def _place(x: float, title: str) -> str:
    """``1 rank``, ``1 MiB``; of another axis the value and its title."""
    if title == "ranks":
        return formatting.ranks(round(x))
    return value_label(x, title) if "bytes" in title else f"{value_label(x, title)} {title}"
