"""The summary of a sweep in sentences: the answer of each group, problems and flags; and an overview of many groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.analysis import formatting
from reports.analysis.bottleneck import MIN_SHARE, NOT_MEASURED, TERM_TITLES, efficiency_losses
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup, Findings, group_cells, with_shown_titles
from reports.analysis.flags import claim_problem, remedy
from reports.analysis.stats import intervals_disjoint
from reports.page import axes_section, nodes_section
from reports.page.elements import Section, Table


def group_answer(group: CellGroup) -> str:
    """Which backend is fastest at the most ranks, and how far it scales: one sentence with intervals."""
    title, cells = group.title, group.cells
    candidates = cells_at_most_ranks(cells)
    if not candidates:
        return f"{title}: no cell has a number."
    best = candidates[0]
    most = best.case.ranks
    text = f"{title}: at {formatting.ranks(most)} {_fastest_text(candidates)}"
    if best.efficiency is not None and most > 1 and "no_baseline" not in best.flags:
        reached = f"{best.labels.efficiency} of {best.case.scaling} scaling"
        text += f"; {best.labels.backend} reaches {reached}"
    if causes := loss_summary(best):
        text += f"; losses of its step: {causes}"
    elif most > 1 and best.decomposition_reason:
        text += f"; losses of its step {NOT_MEASURED}: {best.decomposition_reason}"
    alone = next((cell for cell in _cells_for_claims(cells) if cell.case.transport == "none"), None)
    if alone is not None and most > 1 and _throughput_value(alone) > _throughput_value(best):
        text += f"; a single device is faster, with {alone.labels.throughput}"
    waits = f" Under {best.labels.backend} {best.launch_bound.answer}" if best.launch_bound else ""
    return f"{text}.{waits}"


def cells_at_most_ranks(cells: Sequence[Cell]) -> list[Cell]:
    """The cells at the largest rank count that feeds a scaling claim, the fastest first; empty where there is none."""
    shown = _cells_for_claims(cells)
    most = max((cell.case.ranks for cell in shown), default=0)
    return sorted((cell for cell in shown if cell.case.ranks == most), key=_throughput_value, reverse=True)


def _cells_for_claims(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.throughput is not None and claim_problem(cell.case.flags) is None]


def loss_summary(cell: Cell) -> str:
    """``exposed communication 54 %, …`` of a step: the largest first; empty where all losses are small."""
    if cell.decomposition is None or cell.case.ranks < 2:
        return ""
    losses = sorted(efficiency_losses(cell.decomposition).items(), key=lambda item: -item[1])
    return ", ".join(f"{TERM_TITLES[cause]} {formatting.share(share)}" for cause, share in losses if share >= MIN_SHARE)


MAX_TIED = 3
"""The most cells that a sentence names as tied; of more, it counts the others."""


def _fastest_text(candidates: Sequence[Cell]) -> str:
    """The fastest of cells sorted by throughput, and those that are statistically tied with it."""
    best = candidates[0]
    first = _backend_with_throughput(best)
    if len(candidates) == 1:
        return f"{best.labels.backend} has {best.labels.throughput}"
    assert best.throughput is not None
    comparisons = [
        (cell, intervals_disjoint(best.throughput, cell.throughput))
        for cell in candidates[1:]
        if cell.throughput is not None
    ]
    second = _backend_with_throughput(candidates[1])
    tied = [_backend_with_throughput(cell) for cell, verdict in comparisons if verdict is False]
    if tied:
        return f"{first} is statistically tied with {_enumerated(tied)}"
    if any(verdict is None for _, verdict in comparisons):
        return f"{first} is ahead of {second}; a cell of one trial has no interval to compare"
    return f"{best.labels.backend} is fastest with {best.labels.throughput}; {second} follows"


def _enumerated(names: Sequence[str]) -> str:
    """``a, b and c``; of many the first, and how many more."""
    named = [*names[:MAX_TIED], f"{len(names) - MAX_TIED} more"] if len(names) > MAX_TIED + 1 else list(names)
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def _backend_with_throughput(cell: Cell) -> str:
    return f"{cell.labels.backend} with {cell.labels.throughput}"


def _throughput_value(cell: Cell) -> float:
    return cell.throughput.value if cell.throughput else 0.0


MAX_EXPANDED_GROUPS = 40
"""A page of more groups begins with an overview, and folds their sections."""


def is_long(groups: Sequence[CellGroup]) -> bool:
    """Whether a page of so many groups begins with an overview and folds its sections."""
    return len(groups) > MAX_EXPANDED_GROUPS


def fold_section(section: Section) -> Section:
    """The section, opened on demand."""
    return replace(section, folded=True)


def outcome_counts(groups: Sequence[CellGroup]) -> str:
    """The number of workloads and cells, and their outcomes."""
    cells = [cell for group in groups for cell in group.cells]
    outcomes = {
        outcome: sum(cell.outcome == outcome for cell in cells)
        for outcome in ("ok", "failed", "timeout", "invalid", "skipped")
    }
    outcome_text = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count)
    counts = f"{formatting.counted(len(groups), 'workload')}, {formatting.counted(len(cells), 'cell')}"
    return f"{counts}: {outcome_text}. The overview has a row for each workload."


def overview(groups: Sequence[CellGroup]) -> Section:
    """One row for each group: the fastest backend at the largest rank count that feeds a scaling claim."""
    header = ("workload", "conditions", "ranks", "fastest", "throughput (95 %)", "efficiency (95 %)", "cells", "not ok")
    note = "Fastest by its value; the section of a workload has the intervals."
    return Section(
        "Overview",
        tables=(Table("Overview: each workload at its most ranks", header, tuple(map(_overview_row, groups)), note),),
    )


def _overview_row(group: CellGroup) -> tuple[str, ...]:
    cells = group.cells
    outcome_text = (f"{len(cells)}", f"{sum(cell.outcome != 'ok' for cell in cells) or '–'}")
    title_columns = (group.title, group.conditions)
    candidates = cells_at_most_ranks(cells)
    if not candidates:
        return (*title_columns, "–", "no cell has a number", "–", "–", *outcome_text)
    best = candidates[0]
    return (
        *title_columns,
        best.labels.rank_count,
        best.labels.backend,
        best.labels.throughput,
        best.labels.efficiency,
        *outcome_text,
    )


def answer_sentences(findings: Findings) -> list[str]:
    """A sentence for each group, then one for each axis, and one for each curve over several nodes."""
    return [
        *(group_answer(group) for group in group_cells(findings.cells)),
        *(axes_section.axis_sentence(comparison) for comparison in findings.axes),
        *nodes_section.node_answers(findings.placements),
    ]


def problem_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each reason why a cell is not ok, then one for each condition that may have disturbed trials."""
    cells_by_problem: dict[str, list[Cell]] = {}
    cells = with_shown_titles(cells)
    for cell in cells:
        if cell.outcome != "ok":
            cells_by_problem.setdefault(f"{cell.outcome}: {cell.reason}", []).append(cell)
    lines = []
    for problem, group in cells_by_problem.items():
        first = group[0].labels.title
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append(f"{first}{more} {problem}")
    return [*lines, *_condition_lines(cells)]


def flag_lines(findings: Findings) -> list[str]:
    """One line for the flags of all cells, and one for each flag of fitted curves, with its remedy."""
    counts: dict[str, int] = {}
    for name in (name for cell in findings.cells for name in cell.flags):
        counts[name] = counts.get(name, 0) + 1
    counts_text = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    lines = [f"Flagged cells: {counts_text}; their meaning is under Flags."] if counts_text else []
    seen: dict[str, list[str]] = {}
    for key, curve in findings.curves.items():
        labels = findings.curve_cells[key][0].labels
        for name, what in curve.fit_flags.items():
            seen.setdefault(name, []).append(f"{labels.workload} · {labels.backend}: {what}")
    for name, curves_with in seen.items():
        more = f" (and {len(curves_with) - 1} more curves)" if len(curves_with) > 1 else ""
        lines.append(f"{name}: {curves_with[0]}{more}; {remedy(name)}")
    return lines


def _condition_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each condition, with its first description and its remedy."""
    cells_by_problem: dict[str, list[Cell]] = {}
    for cell in cells:
        for name in dict.fromkeys(condition.name for condition in cell.conditions):
            cells_by_problem.setdefault(name, []).append(cell)
    lines = []
    for name, group in cells_by_problem.items():
        seen = next(condition.seen for condition in group[0].conditions if condition.name == name)
        count = formatting.counted(len(group), "cell")
        lines.append(f"{name} in {count}: {seen} ({group[0].labels.title}); {remedy(name)}")
    return lines
