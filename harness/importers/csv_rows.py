"""CSV files with named columns: their schema, their rows one by one, and errors that name file and line.

Exact and slow. Files of millions of rows are read by :mod:`harness.importers.csv_table`, which comes back here to find
the line at fault.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.errors import UsageError, suggest_name
from harness.importers.limits import check_table, open_table

MISSING_VALUES = ("", "nan", "NaN", "NAN", "-nan", "NA", "N/A", "null", "NULL", "none", "None")
"""How tools write a reading that failed."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")
MAX_SHOWN = 40
"""Characters of a value in an error."""


@dataclass(frozen=True)
class Column:
    """A column that a file must have. ``parse`` takes a value's text and raises ``ValueError`` saying what is wrong."""

    name: str
    parse: Callable[[str], Any]
    aliases: tuple[str, ...] = ()
    """Other names for it: the first of them that a file has, where it has no column of this name."""


@dataclass(frozen=True)
class CsvSchema:
    """The columns that a file must have, in any order and among others."""

    columns: tuple[Column, ...]
    may_be_empty: bool = False
    """Whether there may be no rows below the column names."""
    separators: str = ","
    """What may separate columns. Where that is no comma, a number may have a decimal comma."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def csv_error(path: Path, line: int | None, message: str) -> UsageError:
    """``FILE:3: message``; without a line ``FILE: message``."""
    return UsageError(f"{path}{f':{line}' if line else ''}: {message}")


@dataclass(frozen=True)
class Row:
    """A row with one value a column. ``texts``: values by column name, without surrounding spaces."""

    path: Path
    line: int
    texts: dict[str, str]
    separator: str = ","

    def parse(self, column: Column) -> Any:
        """The value of a column. Raises :class:`UsageError` with file, line and column."""
        text = self.texts[column.name]
        try:
            return column.parse(text if self.separator == "," else decimal_point(text, self.separator))
        except ValueError as problem:
            shown = f" '{text[:MAX_SHOWN]}'" if text else ""
            raise csv_error(self.path, self.line, f"{column.name}{shown} {problem}") from None


def read_rows(path: Path, schema: CsvSchema) -> Iterator[Row]:
    """The rows that are not blank. Of several columns with one name the first counts.

    Raises :class:`UsageError` with file and line for a file that cannot be read, lacks a column, or has a row of more
    or fewer values than there are columns.
    """
    names = read_header(path, schema)
    separator = find_separator(path, schema.separators)
    previous = 0
    try:
        for line, cells in _lines(path, separator):
            if previous:
                if len(cells) != len(names):
                    raise _wrong_length(path, line, previous, cells, len(names))
                values = (cell.strip() for cell in reversed(cells))
                yield Row(path, line, dict(zip(reversed(names), values, strict=True)), separator)
            previous = line
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as problem:
        raise unreadable_error(path, problem) from None


def check_rows(path: Path, schema: CsvSchema) -> None:
    """Raise :class:`UsageError` for the first line that does not fit the schema."""
    for row in read_rows(path, schema):
        for column in schema.columns:
            row.parse(column)


def read_header(path: Path, schema: CsvSchema) -> list[str]:
    """The names of all columns in lower case, aliases replaced. Raises :class:`UsageError` where one is missing."""
    names = read_names(path, schema)
    for column in schema.columns:
        if column.name not in names and (other := next((name for name in column.aliases if name in names), None)):
            names[names.index(other)] = column.name
        if names.count(column.name) > 1:
            raise csv_error(path, 1, f"names the column '{column.name}' twice; rename or remove one")
        if column.name not in names:
            hint = _rename_hint(column.name, [name for name in names if name not in schema.names])
            raise csv_error(path, 1, f"no column '{column.name}'{hint}; needed are {', '.join(schema.names)}")
    return names


def read_names(path: Path, schema: CsvSchema) -> list[str]:
    """The names of all columns in lower case, as the file has them. Raises :class:`UsageError` where there are none."""
    try:
        check_table(path, compressed=is_gzip(path))
        _, cells = next(_lines(path, find_separator(path, schema.separators)), (0, []))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as problem:
        raise unreadable_error(path, problem) from None
    names = [cell.strip().lower() for cell in cells]
    if not names:
        raise csv_error(path, None, f"is empty; its first line names the columns {', '.join(schema.names)}")
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise csv_error(path, 1, f"columns are separated by {separator!r}; separate them by commas")
    return names


def unreadable_error(path: Path, problem: Exception) -> UsageError:
    """The error for a file that cannot be read as CSV at all."""
    if isinstance(problem, UnicodeDecodeError):
        return csv_error(path, _undecodable_line(path), "is not UTF-8 text; save the file as CSV in UTF-8")
    if isinstance(problem, (EOFError, gzip.BadGzipFile)):
        return csv_error(path, None, f"is no whole gzip file ({problem}); copy it again")
    if isinstance(problem, OSError):
        return csv_error(path, None, f"cannot be read ({problem.strerror or problem}); name a CSV file")
    return csv_error(path, None, f"cannot be read as a CSV file ({problem}); write it again with one reading a line")


def parse_label(text: str) -> str:
    """Any text but none."""
    if not text:
        raise ValueError("is empty; fill it in or remove the line")
    return text


def parse_number(text: str) -> float:
    """A finite number."""
    try:
        number = float(text.replace("_", "?"))
    except ValueError:
        raise ValueError("is not a number; write it as 0.0123" if text else "is empty; give a number") from None
    if not math.isfinite(number):
        raise ValueError("is not a finite number; give a measured one")
    return number


def parse_seconds(text: str) -> float:
    """A duration in seconds; NaN where the reading failed."""
    if text in MISSING_VALUES:
        return math.nan
    try:
        seconds = float(text.replace("_", "?"))
    except ValueError:
        raise ValueError("is not a number; write seconds as 0.0123, or nothing where the reading failed") from None
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError("is no duration; give seconds above 0, or nothing where the reading failed")
    return seconds


def open_text(path: Path) -> IO[str]:
    """A CSV file for reading, decompressed where its name ends in ``.gz``."""
    return io.TextIOWrapper(open_table(path, compressed=is_gzip(path)), encoding="utf-8-sig", newline="")


def is_gzip(path: Path) -> bool:
    """Whether a file's name says that it is compressed by gzip."""
    return path.suffix.lower() == ".gz"


def find_separator(path: Path, separators: str) -> str:
    """Which of several separators the first line has most of; the first of them where it has none.

    Raises what reading the file raises.
    """
    if len(separators) == 1:
        return separators
    with open_text(path) as file:
        head = next((line for line in file if line.strip()), "")
    return max(separators, key=head.count)


def decimal_point(text: str, separator: str) -> str:
    """A number with a decimal comma as one with a decimal point.

    Raises ``ValueError`` where the comma may as well separate thousands: columns that are separated by tabs come from
    programs of either kind.
    """
    if "," not in text:
        return text
    if not re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", text):
        raise ValueError("has a comma and is no number with a decimal comma; write it as 1234.5")
    if separator == "\t" and re.fullmatch(r"[+-]?\d{1,3},\d{3}", text):
        raise ValueError("may be a decimal comma or one of thousands; write it with a decimal point or without a comma")
    return text.replace(",", ".")


def _lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not blank, and its values."""
    with open_text(path) as file:
        # A space after a tab is a tab's own: skipping it would swallow empty cells.
        reader = csv.reader(file, delimiter=separator, skipinitialspace=separator != "\t")
        for cells in reader:
            if len(cells) > 1 or any(cell.strip() for cell in cells):
                yield reader.line_num, cells


def _wrong_length(path: Path, line: int, previous: int, cells: Sequence[str], expected: int) -> UsageError:
    if len(cells) > expected:
        message = (
            f"holds {len(cells)} values under {expected} column names; put a value with a comma in quotes, "
            "and write decimals with a point"
        )
        return csv_error(path, line, message)
    # A quote that is never closed takes in the rest of the file: the first line of it is the one to correct.
    unclosed = line > previous + 1 and "\n" in cells[-1]
    message = f"holds {len(cells)} of {expected} values: it is cut short or a quote is left open; complete or remove it"
    return csv_error(path, previous + 1 if unclosed else line, message)


def _rename_hint(expected: str, others: Sequence[str]) -> str:
    hint = suggest_name(expected, others)
    return f" ('{hint.split(chr(39))[1]}' may be it: rename it)" if "did you mean" in hint else ""


def _undecodable_line(path: Path) -> int | None:
    with open_table(path, compressed=is_gzip(path)) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return None
