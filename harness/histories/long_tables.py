"""Tables of readings, one a line, from CSV files of any size: read piece by piece, and thinned out on the way.

A piece is parsed in C. That something is wrong with it is seen by whole columns at a time; which line it is, and what
is wrong there, is for :mod:`harness.histories.table_faults` to find out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.histories.table_faults import (
    UNKNOWN,
    BadLabelError,
    Layout,
    find_fault,
    find_lines,
    is_packed,
    open_text,
    plain,
    read_header,
    unreadable,
)

if TYPE_CHECKING:
    import pandas as pd

PIECE_ROWS = 250_000
THIN_ROWS = 500_000
"""So many more rows are gathered before all are thinned out together."""
BLOCK_BYTES = 2**20


class Words(dict[str, int]):
    """Labels and their numbers, which are the same in every table that is read with them."""

    def numbers(self, column: Any, said: Callable[[str], str] = plain) -> Any:
        """An array of the numbers of a categorical column's labels."""
        import numpy as np

        labels = [said(str(label)) for label in column.cat.categories]
        if "" in labels:
            raise _SomethingIsWrongError
        table = np.array([self.setdefault(label, len(self)) for label in labels], dtype=np.int32)
        return table[column.cat.codes.to_numpy()]

    @property
    def labels(self) -> tuple[str, ...]:
        """By their numbers."""
        return tuple(self)


class _SomethingIsWrongError(Exception):
    """Some line is at fault."""


class _NamesAreNumbersError(Exception):
    """Names that look like numbers were taken for numbers, so that 1.1 and 1.10 would be one."""


def read_table(
    path: Path, layout: Layout, words: dict[str, Words], thin: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """The file's rows: of labels their numbers in ``words``, of numbers float64, NaN where a reading failed.

    ``thin`` is given pieces and what has been gathered of them, and returns the rows to go on with: those that it drops
    from a part must be those that it would drop from the whole.
    Raises :class:`UsageError` with file and line.
    """
    names = read_header(path, layout)
    try:
        try:
            return _gather(path, layout, names, words, thin, "category")
        except _NamesAreNumbersError:
            return _gather(path, layout, names, words, thin, object)
    except BadLabelError as problem:
        lines = find_lines(path, names, problem.label)
        raise UsageError(f"{path}{f', line {lines[0]}' if lines else ''}: {problem}") from None
    except (OSError, EOFError) as problem:
        raise unreadable(path, problem) from None
    except (_SomethingIsWrongError, ValueError, Warning) as problem:
        raise find_fault(path, layout, names) or unreadable(path, problem) from None


def _gather(
    path: Path,
    layout: Layout,
    names: Sequence[str],
    words: dict[str, Words],
    thin: Callable[[pd.DataFrame], pd.DataFrame],
    named: Any,
) -> pd.DataFrame:
    import pandas as pd

    kept: list[pd.DataFrame] = []
    rows = gathered = unknown = 0
    for piece in _pieces(path, layout, names, named):
        part = _numbered(piece, layout, words)
        rows += len(part)
        unknown += int(part[list(layout.numbers)].isna().to_numpy().sum())
        kept.append(thin(part))
        gathered += len(kept[-1])
        if gathered >= THIN_ROWS:
            kept, gathered = [thin(pd.concat(kept, ignore_index=True))], 0
    # A line that ends too early looks like one whose last readings failed.
    ragged = (unknown or names[-1] not in layout.names) and _commas(path) != (rows + 1) * (len(names) - 1)
    if ragged and (fault := find_fault(path, layout, names)):
        raise fault
    if not (rows or layout.may_be_empty):
        raise UsageError(f"{path}: holds no rows under its column names; give one reading a line")
    return thin(pd.concat(kept, ignore_index=True))


def _pieces(path: Path, layout: Layout, names: Sequence[str], named: Any) -> Iterator[pd.DataFrame]:
    import pandas as pd

    # Columns of no concern are cut to a byte: nothing of them is needed, and left out they would hide a surplus value.
    known = [name if name in layout.names else f"other {place}" for place, name in enumerate(names)]
    types: dict[str, Any] = dict.fromkeys(known, "S1")
    types |= dict.fromkeys(layout.labels, "category") | dict.fromkeys(layout.numbers, "float64")
    types["benchmark"] = named
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        with pd.read_csv(
            path,
            names=known,
            header=0,
            dtype=types,
            index_col=False,
            skipinitialspace=True,
            keep_default_na=False,
            na_values={name: list(UNKNOWN) for name in layout.numbers},
            compression="gzip" if is_packed(path) else None,
            chunksize=PIECE_ROWS,
        ) as pieces:
            yield from _ahead(pieces)


def _ahead(pieces: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The next piece is parsed while this one is thinned out: pandas' parser leaves the interpreter free meanwhile."""
    remaining = iter(pieces)
    with ThreadPoolExecutor(1) as parser:
        coming = parser.submit(next, remaining, None)
        while (piece := coming.result()) is not None:
            coming = parser.submit(next, remaining, None)
            yield piece


def _numbered(piece: pd.DataFrame, layout: Layout, words: dict[str, Words]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    numbers = {name: piece[name].to_numpy() for name in layout.numbers}
    if any(((column <= 0) | np.isinf(column)).any() for column in numbers.values()):
        raise _SomethingIsWrongError
    names = piece["benchmark"]
    if names.dtype == "category" and not pd.api.types.is_string_dtype(names.cat.categories.dtype):
        raise _NamesAreNumbersError
    labels = {
        name: words[name].numbers(piece[name].astype("category"), str.strip if name == "benchmark" else plain)
        for name in layout.labels
    }
    return pd.DataFrame(labels | numbers)


def _commas(path: Path) -> int:
    with open_text(path) as text:
        file = getattr(text, "buffer")  # noqa: B009
        return sum(block.count(b",") for block in iter(lambda: file.read(BLOCK_BYTES), b""))
