"""The elements of the first screen of a sweep's page, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_PRINTED = 12
"""Rows of answers that fit on one printed page beside the efficiency table."""
LEGEND = (
    ("good", "▲", "75 % and more"),
    ("fair", "◆", "50 to 75 %"),
    ("poor", "▼", "below 50 %"),
    ("base", "•", "where efficiency starts"),
    ("bad", "✕", "no number: failed, invalid or skipped"),
)
"""The levels of the efficiency table: their class, mark and meaning. Colour is never alone."""
MARKS: Mapping[str, str] = {level: mark for level, mark, _ in LEGEND} | {"plain": ""}


@dataclass(frozen=True)
class Answer:
    """One column of an answer: what is said first, and what follows in small print."""

    title: str
    text: str
    detail: str = ""
    level: str = ""
    """The level of :data:`LEGEND` that marks it; empty: none."""

    @property
    def mark(self) -> str:
        return MARKS.get(self.level, "")


@dataclass(frozen=True)
class HeatCell:
    """One cell of the efficiency table; ``reason`` is shown where it is pointed at."""

    text: str
    level: str
    reason: str = ""

    @property
    def mark(self) -> str:
        return MARKS[self.level]


@dataclass(frozen=True)
class HeatGroup:
    """The rows of one workload: the name of a backend, and its cells. ``title`` is empty where there is one group."""

    title: str
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]


@dataclass(frozen=True)
class HeatTable:
    """The efficiency of each backend at each rank count."""

    caption: str
    columns: tuple[str, ...]
    groups: tuple[HeatGroup, ...]
    legend: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Cover:
    """What the first screen shows below the title."""

    note: str
    facts: tuple[tuple[str, str], ...]
    """Date, machine, commit: names and values."""
    answers: tuple[tuple[Answer, ...], ...]
    """One row for each workload, the workload itself first."""
    heat: HeatTable
    above: tuple[str, ...]
    """What changed between sweeps, and what is the fastest in most of many workloads: above all else."""
    statements: tuple[str, ...]
    """What an option gains, where efficiency is lost over nodes: the first of them."""
    more_statements: str
    """``3 more sentences``; empty where all are shown."""
    outcome: str
    problems: tuple[str, ...]
    """Why cells failed or were skipped: the first reasons."""
    more_problems: str
    """``2 more reasons``; empty where all are shown."""
    steps: tuple[str, ...]
    """What to do next."""
    commands: tuple[str, ...]
    """How to repeat it."""
    more_answers: str = ""
    """``70 more workloads``, which have no row; empty where all have one."""
    printed: int = MAX_PRINTED
    """Further rows are left out in print, so that the cover is one page."""
