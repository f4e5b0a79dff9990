"""The cells of a sweep as tables for the terminal, one a workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reports.cells import Cell
from reports.findings import Findings
from reports.flags import remedy
from reports.page import answers, nodes_section, words

FULL_WIDTH = 96
OUTCOME_STYLES = {"ok": "green", "skipped": "yellow", "failed": "red", "timeout": "red", "invalid": "red"}


def cell_tables(cells: Sequence[Cell], width: int = 100) -> list[Any]:
    """Rich tables: one a workload and scaling, one row a cell; a narrow terminal gets fewer columns."""
    return [_cell_table(group, wide=width >= FULL_WIDTH) for group in group_cells(cells)]


def group_cells(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each figure and table, in the order given."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(words.group_key(cell), []).append(cell)
    return list(groups.values())


def _cell_table(cells: Sequence[Cell], *, wide: bool) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = cells[0].case
    unit = next((cell.throughput.unit for cell in cells if cell.throughput), "")
    title = f"{words.group_title(cells)} · {words.case_conditions(first)}"
    rich_table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    columns: list[tuple[str, bool, Callable[[Cell], str | Text]]] = [
        ("backend", False, lambda cell: words.backend_title(cell.case)),
        ("ranks", True, lambda cell: words.case_rank_count(cell.case)),
        (f"{unit or 'throughput'} (95 %)", True, lambda cell: words.estimate(cell.throughput, unit=False)),
        ("efficiency", True, lambda cell: words.percent(cell.efficiency)),
        ("same work", False, same_work if wide else lambda cell: cell.same_work.verdict if cell.same_work else "–"),
        ("outcome", False, lambda cell: Text(cell.outcome, style=OUTCOME_STYLES[cell.outcome])),
    ]
    if wide:
        columns.insert(3, ("step", True, lambda cell: words.duration_estimate(cell.step_s)))
    for name, right, _ in columns:
        rich_table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cell in cells:
        shown_row = (shown(cell) for _, _, shown in columns)
        rich_table.add_row(*(Text(value) if isinstance(value, str) else value for value in shown_row))
    return rich_table


def answer_sentences(findings: Findings) -> list[str]:
    """What the cells of each group say, then what is lost inside nodes and across them: a sentence each."""
    return [
        *(answers.group_answer(group) for group in group_cells(findings.cells)),
        *nodes_section.node_answers(findings.placements),
    ]


def same_work(cell: Cell) -> str:
    """``same (4e-07)``, ``different``, ``–``"""
    proof = cell.same_work
    if proof is None:
        return "–"
    return proof.verdict if proof.deviation is None else f"{proof.verdict} ({proof.deviation:.0e})"


def problem_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each reason why a cell isn't ok, then one for each condition that may have spoilt numbers."""
    cells_by_problem: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.outcome != "ok":
            cells_by_problem.setdefault(f"{cell.outcome}: {cell.reason}", []).append(cell)
    lines = []
    for problem, group in cells_by_problem.items():
        first = words.case_title(group[0].case)
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append(f"{first}{more} {problem}")
    return [*lines, *_condition_lines(cells)]


def flag_lines(findings: Findings) -> list[str]:
    """One line for the flags of all cells, and one for each trap of a fitted curve, with what to do."""
    counts: dict[str, int] = {}
    for name in (name for cell in findings.cells for name in cell.flags):
        counts[name] = counts.get(name, 0) + 1
    counts_text = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    lines = [f"Flagged cells: {counts_text}; what each means stands under Flags."] if counts_text else []
    seen: dict[str, list[str]] = {}
    for key, curve in findings.curves.items():
        case = findings.curve_cells[key][0].case
        for name, what in curve.fit_flags.items():
            seen.setdefault(name, []).append(f"{words.workload_title(case)} · {words.backend_title(case)}: {what}")
    for name, curves_with in seen.items():
        more = f" (and {len(curves_with) - 1} more curves)" if len(curves_with) > 1 else ""
        lines.append(f"{name}: {curves_with[0]}{more}; {remedy(name)}")
    return lines


def _condition_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each thing that may have spoilt numbers, with what was seen first and what to do."""
    cells_by_problem: dict[str, list[Cell]] = {}
    for cell in cells:
        for name in dict.fromkeys(condition.name for condition in cell.conditions):
            cells_by_problem.setdefault(name, []).append(cell)
    lines = []
    for name, group in cells_by_problem.items():
        seen = next(condition.seen for condition in group[0].conditions if condition.name == name)
        count = f"{len(group)} cell{'s' * (len(group) != 1)}"
        lines.append(f"{name} in {count}: {seen} ({words.case_title(group[0].case)}); {remedy(name)}")
    return lines
