"""A sweep for experiment trackers: its facts, its cells, and their trials and steps as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports.formats.cell_records import CellRecord, TrialRecord
from reports.formats.trial_rows import SweepFacts


@dataclass(frozen=True)
class SweepRecord:
    """One sweep."""

    facts: SweepFacts
    title: str
    cells: tuple[CellRecord, ...]
    trials: Callable[[CellRecord], Iterable[TrialRecord]]
    """The trials of a cell by round."""
    page: Callable[[], str]
    """The sweep's page, one HTML file."""
    note: str | None = None
    tags: tuple[str, ...] = ()
