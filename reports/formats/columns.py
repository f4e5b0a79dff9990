"""The columns of tables for other tools: one definition of name, type, unit and meaning.

A row type is a model whose fields are annotated with :class:`Column`. Parquet files, data frames, the published schemas
and the documentation are made from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from bench.core.frozen_model import FrozenModel

LIST_SEPARATOR = ";"
PlainValue = str | int | float | bool | None
DTYPES = {bool: "boolean", int: "Int64", float: "Float64"}
"""pandas' nullable types; all other columns are text."""
TIME_DTYPE = "datetime64[us, UTC]"


@dataclass(frozen=True)
class Column:
    """Annotates the field of a row.

    Args:
        description: What the column holds, and when it is missing.
        unit: The unit of its numbers; ``1`` of a share or a ratio.
        is_time: Its text is an ISO 8601 time.
    """

    description: str
    unit: str | None = None
    is_time: bool = False


@dataclass(frozen=True)
class ColumnType:
    """A column as tables have it."""

    name: str
    dtype: str
    """pandas' name of the type, in files: a time is text there."""
    unit: str | None
    description: str
    is_time: bool

    @property
    def frame_dtype(self) -> str:
        """The type in a data frame."""
        return TIME_DTYPE if self.is_time else self.dtype


def columns_of(row_type: type[FrozenModel]) -> tuple[ColumnType, ...]:
    """The columns of a row type, in order: from its fields and not from values, so that all tables agree."""
    hints = get_type_hints(row_type, include_extras=True)
    return tuple(_column(name, hints[name]) for name in row_type.model_fields)


def plain_values(row: FrozenModel) -> dict[str, PlainValue]:
    """The values of a row by column: mappings as JSON text, lists joined by semicolons."""
    return {name: _plain(getattr(row, name)) for name in type(row).model_fields}


def _column(name: str, hint: Any) -> ColumnType:
    annotated = list(_annotations(hint))
    if not annotated:
        raise TypeError(f"the field {name} of a row has no Column")
    (column,) = annotated
    return ColumnType(name, _dtype(get_args(hint)[0]), column.unit, column.description, column.is_time)


def _annotations(hint: Any) -> Iterator[Column]:
    return (found for found in getattr(hint, "__metadata__", ()) if isinstance(found, Column))


def _dtype(hint: Any) -> str:
    kinds = get_args(hint) if get_origin(hint) is not dict and NoneType in get_args(hint) else (hint,)
    python_types = {kind for kind in kinds if kind is not NoneType}
    kind = python_types.pop() if len(python_types) == 1 else None
    return DTYPES.get(kind, "string") if isinstance(kind, type) else "string"


def _plain(value: PlainValue | dict[str, Any] | tuple[str, ...]) -> PlainValue:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else None
    return (LIST_SEPARATOR.join(value) or None) if isinstance(value, tuple) else value
