"""Rows as data frames of pandas, whose columns have the type that their definition says, also where there is no row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.core.frozen_model import FrozenModel
from reports.formats.answer_rows import AnswerRow
from reports.formats.cell_rows import CellRow
from reports.formats.columns import ColumnType, PlainValue, columns_of, plain_values
from reports.formats.documents import schema_name, schema_version
from reports.formats.step_rows import StepRow
from reports.formats.sweep_rows import SweepRow
from reports.formats.trial_rows import TrialRow

if TYPE_CHECKING:
    import pandas


ROWS: Mapping[type[FrozenModel], str] = {
    SweepRow: "sweep-row",
    AnswerRow: "answer-row",
    CellRow: "cell-row",
    TrialRow: "trial-row",
    StepRow: "step-row",
}
"""The names of the rows' schemas."""


def frame_of_rows(row_type: type[FrozenModel], rows: Iterable[FrozenModel]) -> pandas.DataFrame:
    """The frame of some rows of one type."""
    values = [plain_values(row) for row in rows]
    return frame_of_columns(row_type, {name: [row[name] for row in values] for name in row_type.model_fields})


def frame_of_columns(row_type: type[FrozenModel], values: Mapping[str, Sequence[PlainValue]]) -> pandas.DataFrame:
    """The frame of some rows of one type, from the values of each column.

    ``attrs`` has the columns' units and the version of their definition.
    """
    import pandas

    columns = columns_of(row_type)
    frame = pandas.DataFrame({column.name: _series(column, values[column.name]) for column in columns})
    frame.attrs |= {
        "schema": schema_name(ROWS[row_type]),
        "schema_version": schema_version(ROWS[row_type]),
        "units": {column.name: column.unit for column in columns if column.unit},
    }
    return frame


def _series(column: ColumnType, values: Sequence[PlainValue]) -> pandas.Series:
    import pandas

    if not column.is_time:
        return pandas.Series(values, dtype=column.dtype)
    times = pandas.to_datetime(pandas.Series(values, dtype="object"), utc=True, format="ISO8601", errors="coerce")
    return times.astype(column.frame_dtype)
