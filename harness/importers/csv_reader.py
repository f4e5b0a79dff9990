"""Tables of readings, one a line, from CSV files of any size: read piece by piece, and thinned out on the way.

A piece is parsed in C. That something is wrong with it is seen by whole columns at a time; which line it is, and what
is wrong there, is for :mod:`harness.importers.csv_faults` to find out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.importers.csv_faults import (
    MISSING_VALUES,
    BadLabelError,
    CsvSchema,
    find_fault,
    find_lines,
    is_gzip,
    normalize_label,
    open_text,
    read_header,
    unreadable_error,
)

if TYPE_CHECKING:
    import pandas as pd

PIECE_ROWS = 250_000
THIN_ROWS = 500_000
"""So many more rows are gathered before all are thinned out together."""
BLOCK_BYTES = 2**20


class LabelCodes(dict[str, int]):
    """Labels and their numbers, which are the same in every table that is read with them."""

    def numbers(self, column: Any, normalize: Callable[[str], str] = normalize_label) -> Any:
        """An array of the numbers of a categorical column's labels."""
        import numpy as np

        labels = [normalize(str(label)) for label in column.cat.categories]
        if "" in labels:
            raise _InvalidTableError
        table = np.array([self.setdefault(label, len(self)) for label in labels], dtype=np.int32)
        return table[column.cat.codes.to_numpy()]

    @property
    def labels(self) -> tuple[str, ...]:
        """By their numbers."""
        return tuple(self)


class _InvalidTableError(Exception):
    """Some line is at fault."""


class _NumericNamesError(Exception):
    """Names that look like numbers were taken for numbers, so that 1.1 and 1.10 would be one."""


def read_table(
    path: Path, schema: CsvSchema, label_codes: dict[str, LabelCodes], thin: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """The file's rows: of labels their numbers in ``words``, of numbers float64, NaN where a reading failed.

    ``thin`` is given pieces and what has been gathered of them, and returns the rows to go on with: those that it drops
    from a part must be those that it would drop from the whole.
    Raises :class:`UsageError` with file and line.
    """
    names = read_header(path, schema)
    try:
        try:
            return _gather(path, schema, names, label_codes, thin, "category")
        except _NumericNamesError:
            return _gather(path, schema, names, label_codes, thin, object)
    except BadLabelError as problem:
        lines = find_lines(path, names, problem.label)
        raise UsageError(f"{path}{f', line {lines[0]}' if lines else ''}: {problem}") from None
    except (OSError, EOFError) as problem:
        raise unreadable_error(path, problem) from None
    except (_InvalidTableError, ValueError, Warning) as problem:
        raise find_fault(path, schema, names) or unreadable_error(path, problem) from None


def _gather(
    path: Path,
    schema: CsvSchema,
    names: Sequence[str],
    label_codes: dict[str, LabelCodes],
    thin: Callable[[pd.DataFrame], pd.DataFrame],
    benchmark_dtype: Any,
) -> pd.DataFrame:
    import pandas as pd

    kept: list[pd.DataFrame] = []
    rows = gathered = unknown = 0
    for piece in _pieces(path, schema, names, benchmark_dtype):
        part = _encode_labels(piece, schema, label_codes)
        rows += len(part)
        unknown += int(part[list(schema.numbers)].isna().to_numpy().sum())
        kept.append(thin(part))
        gathered += len(kept[-1])
        if gathered >= THIN_ROWS:
            kept, gathered = [thin(pd.concat(kept, ignore_index=True))], 0
    # A line that ends too early looks like one whose last readings failed.
    ragged = (unknown or names[-1] not in schema.names) and _count_commas(path) != (rows + 1) * (len(names) - 1)
    if ragged and (fault := find_fault(path, schema, names)):
        raise fault
    if not (rows or schema.may_be_empty):
        raise UsageError(f"{path}: holds no rows under its column names; give one reading a line")
    return thin(pd.concat(kept, ignore_index=True))


def _pieces(path: Path, schema: CsvSchema, names: Sequence[str], benchmark_dtype: Any) -> Iterator[pd.DataFrame]:
    import pandas as pd

    # Columns of no concern are cut to a byte: nothing of them is needed, and left out they would hide a surplus value.
    column_names = [name if name in schema.names else f"other {place}" for place, name in enumerate(names)]
    types: dict[str, Any] = dict.fromkeys(column_names, "S1")
    types |= dict.fromkeys(schema.labels, "category") | dict.fromkeys(schema.numbers, "float64")
    types["benchmark"] = benchmark_dtype
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        with pd.read_csv(
            path,
            names=column_names,
            header=0,
            dtype=types,
            index_col=False,
            skipinitialspace=True,
            keep_default_na=False,
            na_values={name: list(MISSING_VALUES) for name in schema.numbers},
            compression="gzip" if is_gzip(path) else None,
            chunksize=PIECE_ROWS,
        ) as pieces:
            yield from _prefetch(pieces)


def _prefetch(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The next piece is parsed while this one is thinned out: pandas' parser leaves the interpreter free meanwhile."""
    remaining = iter(pieces)
    with ThreadPoolExecutor(1) as parser:
        coming = parser.submit(next, remaining, None)
        while (piece := coming.result()) is not None:
            coming = parser.submit(next, remaining, None)
            yield piece


def _encode_labels(piece: pd.DataFrame, schema: CsvSchema, label_codes: dict[str, LabelCodes]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    numbers = {name: piece[name].to_numpy() for name in schema.numbers}
    if any(((column <= 0) | np.isinf(column)).any() for column in numbers.values()):
        raise _InvalidTableError
    names = piece["benchmark"]
    if names.dtype == "category" and not pd.api.types.is_string_dtype(names.cat.categories.dtype):
        raise _NumericNamesError
    labels = {
        name: label_codes[name].numbers(
            piece[name].astype("category"), str.strip if name == "benchmark" else normalize_label
        )
        for name in schema.labels
    }
    return pd.DataFrame(labels | numbers)


def _count_commas(path: Path) -> int:
    with open_text(path) as text:
        file = getattr(text, "buffer")  # noqa: B009
        return sum(block.count(b",") for block in iter(lambda: file.read(BLOCK_BYTES), b""))
