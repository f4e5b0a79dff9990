"""What a page shows of a sweep with thousands of cells: a part, and where the rest is.

A page that holds everything of 10,000 cells is a hundred megabytes, which no browser opens. So the chapters are those
of the first workloads, further workloads are in one table, and every table ends after :data:`MAX_TABLE_ROWS` rows. What
is left out is said where it is left out. A sweep of up to :data:`reports.analysis.case_groups.MAX_DETAILED_CASES` cells
is shown whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from reports.analysis import formatting
from reports.analysis.answers import WorkloadAnswer
from reports.analysis.cells import Cell
from reports.page import tables
from reports.page.elements import Chapter, Section, Table

MAX_TABLE_ROWS = 500
MAX_ANSWERS = 50
"""Rows of the first screen."""
MAX_WARNINGS = 40
EXPORT_HINT = "`python -m harness export` writes all of them."
FURTHER = Chapter("Further workloads", "Their cells in one table: a page can't hold a chapter of each.")


def further_section(cells: Sequence[Cell]) -> Section | None:
    """The cells of the groups without chapters, with titles that name their workload; ``None`` where there are none."""
    if not cells:
        return None
    # Only rows that are shown are made.
    table = tables.results_table(cells[:MAX_TABLE_ROWS])
    table = replace(table, note=_with_first(table.note, len(table.rows), len(cells)))
    return Section("All cells", tables=(table,), chapter=FURTHER, folded=True)


def bounded(section: Section, hint: str = EXPORT_HINT) -> Section:
    """The section with the first rows of its tables; ``hint``: where all rows are."""
    return replace(section, tables=tuple(first_rows(table, hint) for table in section.tables))


def first_rows(table: Table, hint: str = EXPORT_HINT) -> Table:
    """The first :data:`MAX_TABLE_ROWS` rows, and a note that says so where there are more."""
    count = len(table.rows)
    if count <= MAX_TABLE_ROWS:
        return table
    return replace(table, rows=table.rows[:MAX_TABLE_ROWS], note=_with_first(table.note, MAX_TABLE_ROWS, count, hint))


def _with_first(note: str, shown: int, count: int, hint: str = EXPORT_HINT) -> str:
    """The note of a table; before it, how many of its rows are shown where those are not all."""
    return note if shown >= count else f"The first {shown:,} of {count:,} rows. {hint} {note}".strip()


def bounded_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The first :data:`MAX_WARNINGS` lines, and how many follow."""
    more = len(lines) - MAX_WARNINGS
    return (*lines[:MAX_WARNINGS], *([f"and {formatting.counted(more, 'more line')} like these"] if more > 0 else []))


def fastest_sentence(answers: Sequence[WorkloadAnswer]) -> str | None:
    """Which backend is the fastest in how many workloads, where there are too many to look at each; else ``None``.

    ``The fastest: ddp/gloo in 800 of 1,250 workloads, horovod/gloo in 200; statistically tied in 250. Below are the
    first 50 of them.``
    """
    if len(answers) <= MAX_ANSWERS:
        return None
    alone = Counter(answer.fastest[0] for answer in answers if len(answer.fastest) == 1)
    tied = sum(len(answer.fastest) > 1 for answer in answers)
    unknown = sum(not answer.fastest for answer in answers)
    first, *others = [f"{name} in {count:,}" for name, count in alone.most_common()] or ["none alone"]
    parts = [", ".join([f"{first} of {len(answers):,} workloads", *others])]
    parts += [f"statistically tied in {tied:,}"] if tied else []
    parts += [f"no number in {unknown:,}"] if unknown else []
    return f"The fastest: {'; '.join(parts)}. Below are the first {MAX_ANSWERS} of them."
