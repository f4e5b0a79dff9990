"""The elements of a page as values: tables, figures, sections, downloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reports.page.cover_elements import Cover
from reports.page.palette import SeriesStyle

Ideal = Literal["linear", "one"]
Mark = Literal["points", "line", "fitted", "markers"]


@dataclass(frozen=True)
class Hyperlink:
    """A table cell that links to another page; ``href`` is relative to this page."""

    text: str
    href: str


@dataclass(frozen=True)
class Table:
    """A table with a caption above and a note below; a cell is text or a link."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Hyperlink, ...], ...]
    note: str = ""

    def with_columns(self, kept: Sequence[int]) -> Table:
        """The table with these of its columns, by number."""
        header = tuple(self.header[number] for number in kept)
        return replace(self, header=header, rows=tuple(tuple(row[number] for number in kept) for row in self.rows))

    def without_constant(self, names: Sequence[str]) -> Table:
        """The table without those of the named columns that have the same value in every row."""
        constant = {
            number
            for number, name in enumerate(self.header)
            if name in names and len({row[number] for row in self.rows}) == 1
        }
        return self.with_columns([number for number in range(len(self.header)) if number not in constant])


@dataclass(frozen=True)
class Series:
    """One curve of a figure: ``x`` in ranks, bytes or seconds, and ``y`` with an interval where it is known."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    style: SeriesStyle
    """From :mod:`reports.page.palette`: what it means looks the same in every figure."""
    hollow: tuple[bool, ...]
    """Points that feed no claim, such as oversubscribed ones, are drawn hollow."""
    mark: Mark = "points"
    """``points``: a line through markers; ``line``: without markers, for many points; ``fitted``: a model's line,
    thin and dotted, with a band between ``low`` and ``high`` where they are known; ``markers``: no line."""


@dataclass(frozen=True)
class Figure:
    """A figure; ``caption`` says what it shows, and ``table`` holds its numbers."""

    key: str
    """The id of its HTML element, unique on the page."""
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    caption: str
    table: Table
    ideal: Ideal | None = None
    """``linear``: y = x, ``one``: y = 1."""
    ideal_name: str = "ideal"
    """What the legend calls that line."""
    categories: tuple[str, ...] = ()
    """With categories, ``x`` is the number of a category from 0, and lines break at categories without a point."""
    stacked: bool = False
    """The series are layers of stacked bars over the categories."""
    bars: bool = False
    """Each point is a bar from 0 over its category, with its interval; those of one category are side by side."""
    percent: bool = False
    """``y`` is a share, shown in percent."""
    seconds: bool = False
    """``y`` is a time in seconds, shown in seconds, ms or µs; its title names no unit."""
    grows: bool = False
    """``y`` grows with the number of ranks, as throughput does."""
    window: tuple[float, float] | None = None
    """An interval of ``x`` that is shaded: the measured window."""
    y_end: float | None = None
    """The axis of values reaches at least so far, so that figures side by side have the same one."""
    log_x: bool = False
    log_y: bool = False
    wide: bool = False
    """It takes the whole width of the page."""


@dataclass(frozen=True)
class Chapter:
    """Sections that follow each other and are opened together."""

    title: str
    subtitle: str = ""
    said: tuple[str, ...] = ()
    """Columns that its tables do not show where every row has the same value: the title and subtitle say it."""


@dataclass(frozen=True)
class Section:
    """Figures and tables under one heading; a ``folded`` section is opened on demand."""

    title: str
    subtitle: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False
    chapter: Chapter | None = None
    """``None``: it is a chapter of its own."""
    heading: str = ""
    """Its title within its chapter, where that is shorter."""


@dataclass(frozen=True)
class Download:
    """A file that the page contains and saves on demand; ``label`` describes it."""

    name: str
    label: str
    media_type: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page: its answers on top, then warnings, then its sections in order."""

    title: str
    answers: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    downloads: tuple[Download, ...] = ()
    cover: Cover | None = None
    """The first screen of a sweep's page, in place of its answers; those of verdicts and trends have none."""

    @property
    def chapters(self) -> tuple[tuple[Chapter | None, tuple[Section, ...]], ...]:
        """The sections of each chapter, in order; a section without one stands alone."""
        groups: list[tuple[Chapter | None, list[Section]]] = []
        for section in self.sections:
            if section.chapter is not None and groups and groups[-1][0] == section.chapter:
                groups[-1][1].append(section)
            else:
                groups.append((section.chapter, [section]))
        return tuple((chapter, tuple(sections)) for chapter, sections in groups)

    def table(self, caption: str) -> Table:
        """The table whose caption begins with ``caption``. Raises ``KeyError``."""
        every = (table for section in self.sections for table in section.tables)
        match = next((table for table in every if table.caption.startswith(caption)), None)
        if match is None:
            raise KeyError(caption)
        return match
