"""Axes of rank counts: logarithmic where they span a factor of eight or more, with the measured counts as ticks."""

from __future__ import annotations

from dataclasses import replace

from reports.page.elements import Figure, Section

RANK_TITLES = ("ranks", "nodes", "ranks on the node")
MIN_FACTOR = 8


def with_rank_axes(section: Section) -> Section:
    """The section with its figures over rank counts or nodes on such an axis."""
    return replace(section, figures=tuple(map(with_rank_axis, section.figures)))


def with_rank_axis(figure: Figure) -> Figure:
    """A figure over many rank counts on a logarithmic axis; any other as it is.

    What grows with the ranks, such as throughput, is then on a logarithmic axis too: an ideal curve stays a straight
    line, and an equal loss looks equal at every rank count.
    """
    counts = [x for series in figure.series for x in series.x]
    if figure.categories or figure.x_title not in RANK_TITLES or not counts or min(counts) <= 0:
        return figure
    if max(counts) < MIN_FACTOR * min(counts):
        return figure
    positive = all(y > 0 for series in figure.series for y in series.y)
    return replace(figure, log_x=True, log_y=figure.log_y or (figure.grows and positive))
