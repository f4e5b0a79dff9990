"""Labels in tables of readings: their codes, which of them are equal, and benchmarks that are one at their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.importers.csv_rows import NUMBER
from harness.importers.limits import MAX_LABELS

if TYPE_CHECKING:
    import pandas as pd

MAX_DIGITS = 20
EXACT_LABELS = frozenset({"benchmark", "night"})
"""Columns whose labels are not made equal where they are the same number: 3.1 and 3.10 are two versions."""
_FIELD, _VALUE = "\x1f", "\x1e"
"""Between the parts of a benchmark's label: ASCII's separators, which are in no name."""


class InvalidTableError(Exception):
    """Some line is at fault."""


class TooManyLabelsError(Exception):
    """A column has more different labels than are read."""


class NumericLabelsError(Exception):
    """Names or versions that look like numbers were parsed as numbers, so that 1.1 and 1.10 would be the same."""


class BadLabelError(Exception):
    """A label that its column cannot have; the reader of the file finds its line."""

    def __init__(self, label: Mapping[str, str], message: str) -> None:
        super().__init__(message)
        self.label = label


class LabelCodes(dict[str, int]):
    """Labels and their codes, which are the same in every table that is read with them."""

    def encode(self, column: Any, normalize: Callable[[str], str]) -> Any:
        """An array of the codes of a categorical column's labels."""
        labels = [normalize(str(label)) for label in column.cat.categories]
        if "" in labels:
            raise InvalidTableError
        return self._codes(labels)[column.cat.codes.to_numpy()]

    def encode_places(self, benchmarks: Any, places: pd.DataFrame) -> Any:
        """An array of the codes of benchmarks, each at the place of its row.

        Args:
            benchmarks: An array of codes.
            places: A row for each of them: the fields of its place, as text.
        """
        stripped = places.apply(lambda column: column.str.strip()).assign(benchmark=benchmarks)
        groups = stripped.groupby(list(stripped.columns), sort=False).ngroup().to_numpy()
        names = self.labels
        labels = [
            join_benchmark(names[row.pop("benchmark")], row) for row in stripped.drop_duplicates().to_dict("records")
        ]
        return self._codes(labels)[groups]

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of their codes."""
        return tuple(self)

    def _codes(self, labels: Sequence[str]) -> Any:
        import numpy as np

        codes = np.array([self.setdefault(label, len(self)) for label in labels], dtype=np.int32)
        if len(self) > MAX_LABELS:
            raise TooManyLabelsError
        return codes


def join_benchmark(benchmark: str, place: Mapping[Any, Any]) -> str:
    """The label of a benchmark at a place; without known fields that of the benchmark."""
    return _FIELD.join((benchmark, *(f"{name}{_VALUE}{value}" for name, value in place.items() if value)))


def split_benchmark(label: str) -> tuple[str, dict[str, str]]:
    """A benchmark and the fields of its place."""
    benchmark, *fields = label.split(_FIELD)
    return benchmark, {name: value for name, _, value in (field.partition(_VALUE) for field in fields)}


def check_exact(name: str, column: Any) -> None:
    """Raise :class:`NumericLabelsError` where pandas made other labels of a categorical column than the file has.

    Whole numbers of nights are the same as text, and faster.
    """
    import pandas as pd

    if column.dtype != "category":
        return
    kind = column.cat.categories.dtype
    whole_nights = name != "benchmark" and pd.api.types.is_integer_dtype(kind)
    if not (pd.api.types.is_string_dtype(kind) or whole_nights):
        raise NumericLabelsError


@lru_cache(maxsize=100_000)
def normalize_label(label: str) -> str:
    """Make labels that are the same number equal: ``01``, ``1`` and ``1.0`` become ``1``."""
    text = label.strip()
    if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
        return text
    return f"{Decimal(text).normalize():f}"
