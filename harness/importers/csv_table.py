"""Tables of readings from CSV files of any size, parsed in pieces and reduced on the way.

A piece is parsed in C by pandas, and whole columns are checked at once. Which line is at fault, and why, is found by
:mod:`harness.importers.csv_rows`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.importers.csv_labels import (
    EXACT_LABELS,
    BadLabelError,
    InvalidTableError,
    LabelCodes,
    NumericLabelsError,
    TooManyLabelsError,
    check_exact,
    normalize_label,
    split_benchmark,
)
from harness.importers.csv_rows import (
    MISSING_VALUES,
    Column,
    CsvSchema,
    check_rows,
    csv_error,
    is_gzip,
    parse_label,
    parse_seconds,
    read_header,
    read_rows,
    unreadable_error,
)
from harness.importers.limits import MAX_LABELS, open_table

if TYPE_CHECKING:
    import pandas as pd

BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class ChunkSizes:
    """How much of a file is held at once."""

    piece_rows: int = 250_000
    """Rows that are parsed together."""
    reduce_rows: int = 500_000
    """Rows that are gathered before they are reduced together."""


@dataclass(frozen=True)
class TableSchema:
    """A table of labels (text) and of durations in seconds."""

    labels: tuple[str, ...]
    numbers: tuple[str, ...]
    may_be_empty: bool = False
    place: tuple[str, ...] = ()
    """Columns that a file may have: the machine, interpreter or versions of a row, which may be empty. A benchmark is
    then one at these, see :func:`harness.importers.csv_labels.join_benchmark`."""

    @property
    def csv(self) -> CsvSchema:
        """The same columns, for reading row by row."""
        columns = (
            *(Column(name, parse_label) for name in self.labels),
            *(Column(name, parse_seconds) for name in self.numbers),
        )
        return CsvSchema(columns, self.may_be_empty)

    @property
    def names(self) -> tuple[str, ...]:
        return self.labels + self.numbers


Reduce = Callable[["pd.DataFrame"], "pd.DataFrame"]


def read_table(
    path: Path,
    schema: TableSchema,
    label_codes: dict[str, LabelCodes],
    reduce: Reduce,
    chunks: ChunkSizes = ChunkSizes(),
) -> pd.DataFrame:
    """Read a file's rows: labels as codes, numbers as float64 with NaN where a reading failed.

    Args:
        path: A CSV file, compressed with gzip or not.
        schema: Its columns; one of the labels is ``benchmark``.
        label_codes: Codes by label column, extended by labels that are new.
        reduce: Takes some rows and returns those to keep. What it drops from a part it must also drop from the whole.
        chunks: How much of the file is held at once.

    Raises:
        UsageError: With file and line.
    """
    names = read_header(path, schema.csv)
    reader = _TableReader(path, schema, names, label_codes, reduce, chunks)
    try:
        try:
            return reader.read("category")
        except NumericLabelsError:
            return reader.read(object)
    except BadLabelError as problem:
        lines = find_lines(path, schema, problem.label)
        raise csv_error(path, lines[0] if lines else None, str(problem)) from None
    except TooManyLabelsError:
        message = f"a column has more than {MAX_LABELS:,} different labels; leave out nights that are no longer judged"
        raise csv_error(path, None, message) from None
    except (OSError, EOFError) as problem:
        raise unreadable_error(path, problem) from None
    except (InvalidTableError, ValueError, Warning) as problem:
        check_rows(path, schema.csv)
        raise unreadable_error(path, problem) from None


def find_lines(path: Path, schema: TableSchema, labels: Mapping[str, str]) -> list[int]:
    """The lines that have these labels, by column."""
    wanted = dict(labels)
    if "benchmark" in wanted:
        wanted["benchmark"], place = split_benchmark(wanted["benchmark"])
        wanted |= place
    return [
        row.line
        for row in read_rows(path, schema.csv)
        if all(
            label in (row.texts.get(name), normalize_label(row.texts.get(name, ""))) for name, label in wanted.items()
        )
    ]


@dataclass(frozen=True)
class _TableReader:
    """One pass over a file. ``names``: of all its columns."""

    path: Path
    schema: TableSchema
    names: Sequence[str]
    label_codes: dict[str, LabelCodes]
    reduce: Reduce
    chunks: ChunkSizes

    def read(self, label_dtype: Any) -> pd.DataFrame:
        """All rows, reduced. Raises where some line is at fault, in most cases without saying which."""
        import pandas as pd

        kept: list[pd.DataFrame] = []
        rows = gathered = unknown = 0
        for piece in self._pieces(label_dtype):
            part = self._encode(piece)
            rows += len(part)
            unknown += int(part[list(self.schema.numbers)].isna().to_numpy().sum())
            kept.append(self.reduce(part))
            gathered += len(kept[-1])
            if gathered >= self.chunks.reduce_rows:
                kept, gathered = [self.reduce(pd.concat(kept, ignore_index=True))], 0
        # pandas reads a line that is cut short as one whose last readings failed.
        may_be_ragged = unknown or self.names[-1] not in self.schema.names
        if may_be_ragged and _count_commas(self.path) != (rows + 1) * (len(self.names) - 1):
            check_rows(self.path, self.schema.csv)
        if not (rows or self.schema.may_be_empty):
            raise csv_error(self.path, None, "holds no rows under its column names; give one reading a line")
        return self.reduce(pd.concat(kept, ignore_index=True))

    @property
    def _place(self) -> list[str]:
        """The columns of the place that the file has."""
        return [name for name in self.schema.place if name in self.names]

    def _pieces(self, label_dtype: Any) -> Iterator[pd.DataFrame]:
        import pandas as pd

        # Other columns are read, cut to a byte each: left out they would hide a surplus value.
        known = (*self.schema.names, *self._place)
        columns = [name if name in known else f"other {number}" for number, name in enumerate(self.names)]
        types: dict[str, Any] = dict.fromkeys(columns, "S1")
        types |= dict.fromkeys(self.schema.labels, "category") | dict.fromkeys(self.schema.numbers, "float64")
        types |= dict.fromkeys(EXACT_LABELS & types.keys(), label_dtype) | dict.fromkeys(self._place, object)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with (
                open_table(self.path, compressed=is_gzip(self.path)) as file,
                pd.read_csv(
                    file,
                    names=columns,
                    header=0,
                    dtype=types,
                    index_col=False,
                    skipinitialspace=True,
                    keep_default_na=False,
                    na_values={name: list(MISSING_VALUES) for name in self.schema.numbers},
                    chunksize=self.chunks.piece_rows,
                ) as pieces,
            ):
                yield from _prefetch(pieces)

    def _encode(self, piece: pd.DataFrame) -> pd.DataFrame:
        """Labels as codes. Raises where some value of the piece is none."""
        import numpy as np
        import pandas as pd

        numbers = {name: piece[name].to_numpy() for name in self.schema.numbers}
        if any(((column <= 0) | np.isinf(column)).any() for column in numbers.values()):
            raise InvalidTableError
        for name in EXACT_LABELS.intersection(self.schema.labels):
            check_exact(name, piece[name])
        labels = {
            name: self.label_codes[name].encode(
                piece[name].astype("category"), str.strip if name in EXACT_LABELS else normalize_label
            )
            for name in self.schema.labels
        }
        if self._place:
            labels["benchmark"] = self.label_codes["benchmark"].encode_places(labels["benchmark"], piece[self._place])
        return pd.DataFrame(labels | numbers)


def _prefetch(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Parse the next piece while this one is processed: pandas' parser releases the interpreter lock."""
    remaining = iter(pieces)
    with ThreadPoolExecutor(1) as parser:
        coming = parser.submit(next, remaining, None)
        while (piece := coming.result()) is not None:
            coming = parser.submit(next, remaining, None)
            yield piece


def _count_commas(path: Path) -> int:
    with open_table(path, compressed=is_gzip(path)) as file:
        return sum(block.count(b",") for block in iter(lambda: file.read(BLOCK_BYTES), b""))
