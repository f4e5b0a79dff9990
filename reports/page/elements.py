"""What a page consists of, as values: tables, figures, sections. It fills none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ideal = Literal["linear", "one"]
Mark = Literal["points", "line", "fitted", "markers"]


@dataclass(frozen=True)
class Hyperlink:
    """A cell of a table that leads to another page; ``href`` is relative to this one."""

    text: str
    href: str


@dataclass(frozen=True)
class Table:
    """``note`` stands under it. A cell of a row is text, or a link."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Hyperlink, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Series:
    """One curve: ``x`` ranks (bytes, seconds), ``y`` with its interval where there is one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    style: int
    """Which colour, dash and marker: the same backend has the same in every figure."""
    hollow: tuple[bool, ...]
    """Points that feed no claim (oversubscribed) are drawn hollow."""
    mark: Mark = "points"
    """``points``: a line through markers; ``line``: without markers, for many points; ``fitted``: a model's line,
    thin and dotted, with a band between ``low`` and ``high`` where they are known; ``markers``: no line."""


@dataclass(frozen=True)
class Figure:
    """``sentence`` says what it shows; ``table`` holds its numbers."""

    key: str
    """Unique on the page; fit for an element's id."""
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    caption: str
    table: Table
    ideal: Ideal | None = None
    """``linear``: y = x, ``one``: y = 1."""
    categories: tuple[str, ...] = ()
    """Where there are any, ``x`` numbers them from 0, and the line of a series breaks where one has no point."""
    stacked: bool = False
    """The series are layers of stacked bars over the categories."""
    percent: bool = False
    """``y`` is a share, shown in per cent."""
    window: tuple[float, float] | None = None
    """A stretch of ``x`` that is shaded: the measured window."""
    log_x: bool = False
    log_y: bool = False
    wide: bool = False
    """It takes the whole width of the page."""


@dataclass(frozen=True)
class Section:
    """Figures and tables under one heading; a ``folded`` one is opened on demand."""

    title: str
    subtitle: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Download:
    """A file that the page hands out: ``label`` says what it holds."""

    name: str
    label: str
    media_type: str
    text: str


@dataclass(frozen=True)
class Page:
    """``answers`` stand on top, then ``warnings``; the sections follow in order."""

    title: str
    answers: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    downloads: tuple[Download, ...] = ()

    def table(self, caption: str) -> Table:
        """The table whose caption begins so. Raises ``KeyError``."""
        every = (table for section in self.sections for table in section.tables)
        match = next((table for table in every if table.caption.startswith(caption)), None)
        if match is None:
            raise KeyError(caption)
        return match
