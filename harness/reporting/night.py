"""A finished sweep as a night: what an index of many sweeps keeps of it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.names import file_stem
from harness.store.store import SweepInfo
from reports.analysis.cells import Cell
from reports.analysis.comparison import Night, night_cell
from reports.analysis.rank_resources import join_variables, variable_settings
from reports.analysis.stats import Estimate

INDEX_STEM = "index"


def report_name(sweep: str) -> str:
    """The file of a sweep's report beside the index."""
    return f"{file_stem(sweep, reserved=(INDEX_STEM,))}.html"


def _inherited_variables(cell: Cell) -> dict[str, str] | None:
    """Those that its case does not give: what it gives is part of its key."""
    if cell.variables is None:
        return None
    return {name: value for name, value in cell.variables.items() if name not in cell.case.env}


def night_of(info: SweepInfo, cells: Sequence[Cell], cost: Estimate | None) -> Night:
    """The night; ``cost``: what measuring cost."""
    environment = info.environment
    changed = " with changed files" if environment.changed_files else ""
    return Night(
        sweep=info.id,
        href=report_name(info.id),
        started_at=info.started_at,
        finished=info.finished_at is not None,
        suite=info.suite.name,
        commit=f"{environment.commit}{changed}" if environment.commit else "unknown",
        sources=info.sources.digest if info.sources else None,
        machine=environment.machine,
        place=environment.place | variable_settings(join_variables(map(_inherited_variables, cells))),
        cells=tuple(map(night_cell, cells)),
        own_cost=cost,
    )
