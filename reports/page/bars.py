"""A page without curves: bars in place of curves of one point, and no word of scaling where there is one rank count."""

from __future__ import annotations

from dataclasses import replace

from reports.analysis import formatting
from reports.page.elements import Figure, Section, Table
from reports.page.figure_axes import value_label

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

    The bars have the colours of the curves. Where all points have the same ``x``, or are over a single category, the
    axis says it once; else each name has its own.
    """
    curves = [series for series in figure.series if series.x]
    is_curve = (
        len(figure.categories) > 1
        or figure.stacked
        or figure.window
        or any(len(series.x) > 1 or series.mark not in LINES for series in curves)
    )
    if not curves or is_curve:
        return figure
    places = [_place(figure, series.x[0]) for series in curves]
    same_place = len(set(places)) == 1
    names = [
        series.name if same_place else f"{series.name} {place}" for series, place in zip(curves, places, strict=True)
    ]
    return replace(
        figure,
        x_title=places[0] if same_place else "",
        series=tuple(replace(series, x=(float(number),), mark="points") for number, series in enumerate(curves)),
        categories=tuple(names),
        bars=True,
        log_x=False,
        log_y=False,
    )


def _place(figure: Figure, x: float) -> str:
    """``at 1 rank``, ``at 1 MiB``, ``sweep 11-19``; of another axis the value and its title."""
    title = figure.x_title
    if figure.categories:
        return f"{title} {figure.categories[0]}"
    if title == "ranks":
        return f"at {formatting.ranks(round(x))}"
    return f"at {value_label(x, title)}{'' if 'bytes' in title else f' {title}'}"
