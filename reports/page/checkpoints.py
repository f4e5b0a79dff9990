"""What saving model and optimizer costs: a table with a row for each cell that measured it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.records import CHECKPOINT_READINGS
from reports.analysis import formatting
from reports.analysis.axes import without_setting
from reports.analysis.case_titles import case_title
from reports.analysis.cell_details import ReadingCell
from reports.analysis.cells import Cell
from reports.page.elements import Table

CHECKPOINTS_TITLE = "Checkpoints"
ABSENT = "–"
NOTE = (
    "Model and optimizer, saved after the measured window. Stall: how long training stands still for one save, on the "
    "slowest rank. blocking: torch.save on rank 0 while the others wait, a sharded state gathered first; it does not "
    "wait for the disk. distributed: torch.distributed.checkpoint.save, which does. async: the call of async_save, and "
    "by how much the steps took longer until everything was written. Size: of all ranks; rate: size ÷ the time until "
    "everything is on the disk. 1 GB = 1e9 bytes."
)


def checkpoint_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell whose workload's option ``checkpoint`` names a way, with the reason where it is unknown."""
    rows = []
    for cell in cells:
        readings = {reading.name: reading for reading in cell.readings if reading.name in CHECKPOINT_READINGS}
        if not readings:
            continue
        # A record may lack some of them.
        shown = [_shown(readings[name]) if name in readings else ABSENT for name in CHECKPOINT_READINGS]
        way = str(cell.case.workload_options.get("checkpoint", "none"))
        known = any(reading.estimate for reading in readings.values())
        # How it saved has a column of its own.
        title = case_title(without_setting(cell.case, f"workload.{cell.case.workload}.checkpoint"))
        if not known:
            reason = next(_shown(reading) for reading in readings.values())
            shown = [reason, *[ABSENT] * (len(shown) - 1)]
        rows.append((title, way, *shown))
    header = ("cell", "saved by", "stall (95 %)", "stall per GB", "on the disk after", "size", "rate")
    return Table(CHECKPOINTS_TITLE, header, tuple(rows), NOTE)


def _shown(reading: ReadingCell) -> str:
    if reading.estimate is None:
        return f"unknown: {reading.reason}"
    # A size hardly varies.
    return (formatting.reading if reading.estimate.unit == "B" else formatting.estimate)(reading.estimate)
