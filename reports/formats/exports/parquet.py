"""Trials as Apache Parquet, one row for each: the columns of the CSV file, with types."""

from __future__ import annotations

import importlib.util
import io
import re

from reports.formats.columns import columns_of, plain_values
from reports.formats.documents import schema_name, schema_version
from reports.formats.exports import CannotExport, Export, Format
from reports.formats.trial_rows import SweepTable, TrialRow


def render(table: SweepTable) -> Export:
    """The rows as a file; raises :class:`CannotExport` where pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise CannotExport("pyarrow is not installed; run `python -m pip install pyarrow`, or choose csv")
    import pandas

    frame = pandas.DataFrame([plain_values(row) for row in table.rows], columns=list(TrialRow.model_fields))
    frame = frame.astype(column_types())
    # Part of the file's description for pandas.
    frame.attrs |= {"schema": schema_name("trial-row"), "schema_version": schema_version("trial-row")}
    file = io.BytesIO()
    frame.to_parquet(file, engine="pyarrow", index=False)
    return Export(file.getvalue())


def column_types() -> dict[str, str]:
    """The type of each column, so that files of all sweeps agree."""
    return {column.name: column.dtype for column in columns_of(TrialRow)}


FORMAT = Format(
    "a row a trial, typed, for pandas, DuckDB and Spark",
    (".parquet", ".pq"),
    render,
    text=False,
    # The names of the columns, in the description for pandas at the end of the file.
    signature=re.compile(rb'"field_name": "same_work_deviation"'),
)
