"""Rows as data frames of pandas, whose columns have the type that their definition says, also where there is no row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.core.frozen_model import FrozenModel
from reports.formats.columns import ColumnType, PlainValue, columns_of, plain_values

if TYPE_CHECKING:
    import pandas


def frame_of_rows(row_type: type[FrozenModel], rows: Iterable[FrozenModel]) -> pandas.DataFrame:
    """The frame of some rows of one type."""
    values = [plain_values(row) for row in rows]
    return frame_of_columns(row_type, {name: [row[name] for row in values] for name in row_type.model_fields})


def frame_of_columns(row_type: type[FrozenModel], values: Mapping[str, Sequence[PlainValue]]) -> pandas.DataFrame:
    """The frame of some rows of one type, from the values of each column. ``attrs["units"]`` has the columns' units."""
    import pandas

    columns = columns_of(row_type)
    frame = pandas.DataFrame({column.name: _series(column, values[column.name]) for column in columns})
    frame.attrs["units"] = {column.name: column.unit for column in columns if column.unit}
    return frame


def _series(column: ColumnType, values: Sequence[PlainValue]) -> pandas.Series:
    import pandas

    if not column.is_time:
        return pandas.Series(values, dtype=column.dtype)
    times = pandas.to_datetime(pandas.Series(values, dtype="object"), utc=True, format="ISO8601", errors="coerce")
    return times.astype(column.frame_dtype)
