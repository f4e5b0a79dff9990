"""A page of many workloads begins with a summary: a row for each, whose section is opened on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.cells import Cell
from reports.page import answers, words
from reports.page.values import Section, Table

MOST_OPEN = 40
"""Groups whose figures stand open, one below the other."""


def is_long(groups: Sequence[Sequence[Cell]]) -> bool:
    return len(groups) > MOST_OPEN


def folded(section: Section) -> Section:
    return replace(section, folded=True)


def summary(groups: Sequence[Sequence[Cell]]) -> str:
    """How many workloads and cells there are, and how they ended."""
    cells = [cell for group in groups for cell in group]
    outcomes = {outcome: sum(cell.outcome == outcome for cell in cells) for outcome in
                ("ok", "failed", "timeout", "invalid", "skipped")}  # fmt: skip
    ended = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count)
    return f"{len(groups):,} workloads, {len(cells):,} cells: {ended}. The overview has a row for each workload."


def overview(groups: Sequence[Sequence[Cell]]) -> Section:
    """One row a group: the fastest backend at the largest rank count that feeds a claim."""
    header = ("workload", "conditions", "ranks", "fastest", "throughput (95 %)", "efficiency (95 %)", "cells", "not ok")
    note = "Fastest by its value; whether others can be told from it is said in the workload's own section."
    return Section("Overview", tables=(Table("Overview: each workload at its most ranks", header,
                                             tuple(map(_row, groups)), note),))  # fmt: skip


def _row(cells: Sequence[Cell]) -> tuple[str, ...]:
    ended = (f"{len(cells)}", f"{sum(cell.outcome != 'ok' for cell in cells) or '–'}")
    titled = (words.group_title(cells), words.conditions(cells[0].case))
    level = answers.largest(cells)
    if not level:
        return (*titled, "–", "no cell gave a number", "–", "–", *ended)
    best = level[0]
    return (*titled, words.count(best.case), words.backend_title(best.case), words.measured(best.throughput),
            words.percent(best.efficiency), *ended)  # fmt: skip
