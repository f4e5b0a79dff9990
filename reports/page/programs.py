"""Tables about users' own programs: how their work was counted, and how they ran to their end."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.page.elements import Table

WATCHING = "watching"


def programs_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell that ran a program."""
    rows = []
    for cell in cells:
        if (program := cell.program) is None:
            continue
        watching = next((reading.estimate for reading in cell.readings if reading.name == WATCHING), None)
        unit = cell.throughput.unit.partition("/")[0] if cell.throughput else "samples"
        rows.append(
            (
                cell.labels.title,
                f"{unit} {program.work_counted}",
                program.steps_seen,
                program.end,
                "–" if watching is None else formatting.percent(watching),
            )
        )
    header = ("cell", "work of a step", "a step ends with", "end of the program", "time that watching took")
    note = (
        "The program runs unchanged; its steps are seen from outside. Its rate counts what its DataLoaders yield, what "
        "--samples-per-step gives, or what the program prints."
    )
    return Table("Programs", header, tuple(rows), note)


def whole_runs_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell whose program came to its own end (``--whole``)."""
    rows = tuple(
        (
            cell.labels.title,
            formatting.estimate(whole.time_to_end_s),
            formatting.estimate(whole.startup_s),
            formatting.whole(whole.steps.value),
            f"{formatting.estimate(whole.checkpoint_s)} in {formatting.whole(whole.checkpoints.value)}",
            formatting.estimate(whole.evaluation_s),
            formatting.percent(whole.goodput),
        )
        for cell in cells
        if cell.program is not None and (whole := cell.program.whole) is not None
    )
    header = ("cell", "time to the end", "start to first step", "steps", "checkpoint pauses", "evaluation", "goodput")
    note = (
        "From the start of a rank's process to its end, on the slowest rank. Goodput: the time in steps ÷ the time to "
        "the end; starting, evaluating and waiting for checkpoints are not in it."
    )
    return Table("Programs from start to end", header, rows, note)
