"""What a page consists of, as values: tables, figures, sections. It fills none of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """``note`` stands under it. A cell of a row is text."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Series:
    """One curve: ``x`` ranks (or bytes), ``y`` with its interval where there is one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    style: int
    """Which colour, dash and marker: the same backend has the same in every figure."""
    hollow: tuple[bool, ...]
    """Points that feed no claim (oversubscribed) are drawn hollow."""
    fitted: bool = False
    """A model's line, without markers."""


@dataclass(frozen=True)
class Figure:
    """``sentence`` says what it shows; ``table`` holds its numbers."""

    key: str
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    sentence: str
    table: Table
    ideal: str | None = None
    """``linear``: y = x, ``one``: y = 1."""
    categories: tuple[str, ...] = ()
    """Where there are any, the series are layers of stacked bars, and ``x`` numbers the bars."""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    subtitle: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Page:
    title: str
    answers: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    results: Table
    same_work: Table
    readings: Table
    usage: Table
    conditions: Table
    decomposition: Table
    scaling: Table
    troubles: Table
    not_applicable: Table
    machinery: Table
    flags: Table
    provenance: Table
    settings: Table
