"""The cells of a sweep as tables for the terminal, one a workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reports.cells import Cell
from reports.findings import Findings
from reports.flags import remedy
from reports.page import answers, nodes_section, words

ALL_COLUMNS = 96
STYLES = {"ok": "green", "skipped": "yellow", "failed": "red", "timeout": "red", "invalid": "red"}


def tables(cells: Sequence[Cell], width: int = 100) -> list[Any]:
    """Rich tables: one a workload and scaling, one row a cell; a narrow terminal gets fewer columns."""
    return [_table(group, wide=width >= ALL_COLUMNS) for group in grouped(cells)]


def grouped(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each figure and table, in the order given."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(words.group_key(cell), []).append(cell)
    return list(groups.values())


def _table(cells: Sequence[Cell], *, wide: bool) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = cells[0].case
    unit = next((cell.throughput.unit for cell in cells if cell.throughput), "")
    title = f"{words.group_title(cells)} · {words.conditions(first)}"
    made = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    columns: list[tuple[str, bool, Callable[[Cell], str | Text]]] = [
        ("backend", False, lambda cell: words.backend_title(cell.case)),
        ("ranks", True, lambda cell: words.count(cell.case)),
        (f"{unit or 'throughput'} (95 %)", True, lambda cell: words.measured(cell.throughput, unit=False)),
        ("efficiency", True, lambda cell: words.percent(cell.efficiency)),
        ("same work", False, same_work if wide else lambda cell: cell.same_work.verdict if cell.same_work else "–"),
        ("outcome", False, lambda cell: Text(cell.outcome, style=STYLES[cell.outcome])),
    ]
    if wide:
        columns.insert(3, ("step", True, lambda cell: words.milliseconds(cell.step_s)))
    for name, right, _ in columns:
        made.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cell in cells:
        shown_row = (shown(cell) for _, _, shown in columns)
        made.add_row(*(Text(value) if isinstance(value, str) else value for value in shown_row))
    return made


def answered(findings: Findings) -> list[str]:
    """What the cells of each group say, then what is lost inside nodes and across them: a sentence each."""
    return [*(answers.answer(group) for group in grouped(findings.cells)), *nodes_section.answers(findings.placements)]


def same_work(cell: Cell) -> str:
    """``same (4e-07)``, ``different``, ``–``"""
    proof = cell.same_work
    if proof is None:
        return "–"
    return proof.verdict if proof.deviation is None else f"{proof.verdict} ({proof.deviation:.0e})"


def remarks(cells: Sequence[Cell]) -> list[str]:
    """One line for each reason why a cell isn't ok, then one for each condition that may have spoilt numbers."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.outcome != "ok":
            found.setdefault(f"{cell.outcome}: {cell.reason}", []).append(cell)
    lines = []
    for said, group in found.items():
        first = words.case_title(group[0].case)
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append(f"{first}{more} {said}")
    return [*lines, *_conditions(cells)]


def flagged(findings: Findings) -> list[str]:
    """One line for the flags of all cells, and one for each trap of a fitted curve, with what to do."""
    counts: dict[str, int] = {}
    for name in (name for cell in findings.cells for name in cell.flags):
        counts[name] = counts.get(name, 0) + 1
    told = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    lines = [f"Flagged cells: {told}; what each means stands under Flags."] if told else []
    seen: dict[str, list[str]] = {}
    for key, curve in findings.curves.items():
        case = findings.fed[key][0].case
        for name, what in curve.traps.items():
            seen.setdefault(name, []).append(f"{words.workload_title(case)} · {words.backend_title(case)}: {what}")
    for name, curves_with in seen.items():
        more = f" (and {len(curves_with) - 1} more curves)" if len(curves_with) > 1 else ""
        lines.append(f"{name}: {curves_with[0]}{more}; {remedy(name)}")
    return lines


def _conditions(cells: Sequence[Cell]) -> list[str]:
    """One line for each thing that may have spoilt numbers, with what was seen first and what to do."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        for name in dict.fromkeys(condition.name for condition in cell.conditions):
            found.setdefault(name, []).append(cell)
    lines = []
    for name, group in found.items():
        seen = next(condition.seen for condition in group[0].conditions if condition.name == name)
        count = f"{len(group)} cell{'s' * (len(group) != 1)}"
        lines.append(f"{name} in {count}: {seen} ({words.case_title(group[0].case)}); {remedy(name)}")
    return lines
