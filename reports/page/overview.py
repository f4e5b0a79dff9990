"""A page of many workloads begins with a summary: a row for each, whose section is opened on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.cells import Cell
from reports.page import answers, words
from reports.page.values import Section, Table

MAX_EXPANDED_GROUPS = 40
"""Groups whose figures stand open, one below the other."""


def is_long(groups: Sequence[Sequence[Cell]]) -> bool:
    return len(groups) > MAX_EXPANDED_GROUPS


def fold_section(section: Section) -> Section:
    return replace(section, folded=True)


def outcome_counts(groups: Sequence[Sequence[Cell]]) -> str:
    """How many workloads and cells there are, and how they ended."""
    cells = [cell for group in groups for cell in group]
    outcomes = {
        outcome: sum(cell.outcome == outcome for cell in cells)
        for outcome in ("ok", "failed", "timeout", "invalid", "skipped")
    }
    outcome_text = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count)
    return f"{len(groups):,} workloads, {len(cells):,} cells: {outcome_text}. The overview has a row for each workload."


def overview(groups: Sequence[Sequence[Cell]]) -> Section:
    """One row a group: the fastest backend at the largest rank count that feeds a claim."""
    header = ("workload", "conditions", "ranks", "fastest", "throughput (95 %)", "efficiency (95 %)", "cells", "not ok")
    note = "Fastest by its value; whether others can be told from it is said in the workload's own section."
    return Section(
        "Overview",
        tables=(Table("Overview: each workload at its most ranks", header, tuple(map(_overview_row, groups)), note),),
    )


def _overview_row(cells: Sequence[Cell]) -> tuple[str, ...]:
    outcome_text = (f"{len(cells)}", f"{sum(cell.outcome != 'ok' for cell in cells) or '–'}")
    title_columns = (words.group_title(cells), words.case_conditions(cells[0].case))
    candidates = answers.cells_at_most_ranks(cells)
    if not candidates:
        return (*title_columns, "–", "no cell gave a number", "–", "–", *outcome_text)
    best = candidates[0]
    return (
        *title_columns,
        words.case_rank_count(best.case),
        words.backend_title(best.case),
        words.estimate(best.throughput),
        words.percent(best.efficiency),
        *outcome_text,
    )
