"""Trials as CSV (RFC 4180, UTF-8), one row for each; ``python -m harness fit`` reads it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from reports.formats.columns import plain_values
from reports.formats.csv_cells import escape_cell
from reports.formats.exports import Export, Format
from reports.formats.trial_rows import SweepTable, TrialRow


def trials_csv(rows: Sequence[TrialRow]) -> str:
    """The rows as CSV: numbers read back as the same values, unknown values are empty, and no text is a formula
    (:mod:`reports.formats.csv_cells`)."""
    text = io.StringIO()
    lines = csv.DictWriter(text, list(TrialRow.model_fields))
    lines.writeheader()
    for row in rows:
        lines.writerow(
            {name: escape_cell(value) if isinstance(value, str) else value for name, value in plain_values(row).items()}
        )
    return text.getvalue()


def render(table: SweepTable) -> Export:
    """See :attr:`reports.formats.exports.Format.render`."""
    return Export(trials_csv(table.rows))


def _header_pattern() -> re.Pattern[bytes]:
    """The header of every version: columns are appended. A table with further ones is somebody's own."""
    first, *further = TrialRow.model_fields
    older = "".join(f"(?:,{name}" for name in further) + ")?" * len(further)
    return re.compile(rf"\A{first}{older}\r?\n".encode())


FORMAT = Format("a row a trial, for spreadsheets, pandas and `fit`", (".csv",), render, signature=_header_pattern())
