"""Options of a workload that change the work itself, such as a model, and cells that differ in one of them.

A throughput in samples of one model says nothing about another, so that no value gains over another
(:mod:`reports.analysis.axes` has the settings that do the same work). What the values cost is a description.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.analysis.axes import SCRIPT, settings_of, without_setting
from reports.analysis.case_titles import case_labels, value_text
from reports.analysis.cells import Cell, CellLabels
from reports.analysis.label_order import natural_key

EXCLUDED = ("collectives", SCRIPT)
"""Operations and sizes of collectives have figures of their own; two commands are two programs."""


@dataclass(frozen=True)
class WorkLine:
    """The cells of one curve at its most ranks that differ in the value alone, in the order of the values."""

    labels: CellLabels
    """Without the value."""
    values: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class WorkAxis:
    """An option of a workload with the lines along it, at least one; ``workload``: without the option."""

    title: str
    workload: str
    lines: tuple[WorkLine, ...]


def work_axes(cells: Sequence[Cell]) -> tuple[WorkAxis, ...]:
    """The options of workloads that some measured cells alone differ in (pure)."""
    measured = [cell for cell in cells if cell.throughput is not None and cell.case.fault is None]
    options = {
        (cell.case.workload, name): None
        for cell in measured
        if cell.case.workload not in EXCLUDED
        for name in cell.case.workload_options
        if f"workload.{cell.case.workload}.{name}" not in settings_of(cell.case)
    }
    return tuple(axis for workload, name in options for axis in _axes(workload, name, measured))


def _axes(workload: str, name: str, cells: Sequence[Cell]) -> Iterator[WorkAxis]:
    """An axis for each set of the other options."""
    key = f"workload.{workload}.{name}"
    by_rest: dict[str, dict[int, dict[str, Cell]]] = {}
    for cell in cells:
        if cell.case.workload == workload and name in cell.case.workload_options:
            rest = by_rest.setdefault(without_setting(cell.case, key).curve, {})
            rest.setdefault(cell.case.ranks, {})[value_text(cell.case.workload_options[name])] = cell
    by_workload: dict[str, list[WorkLine]] = {}
    for by_ranks in by_rest.values():
        shared = [ranks for ranks, by_value in by_ranks.items() if len(by_value) > 1]
        if shared:
            by_value = by_ranks[max(shared)]
            values = tuple(sorted(by_value, key=natural_key))
            labels = case_labels(without_setting(by_value[values[0]].case, key))
            line = WorkLine(
                labels=by_value[values[0]].labels.model_copy(update=labels.model_dump()),
                values=values,
                cells=tuple(by_value[value] for value in values),
            )
            by_workload.setdefault(f"{labels.workload} · {labels.scaling}", []).append(line)
    for title, lines in by_workload.items():
        yield WorkAxis(title=name, workload=title, lines=tuple(lines))
