"""What is wrong with a CSV file of readings, and on which line. Slow and exact: asked only once something is amiss."""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from harness.errors import UsageError, suggest_name

MISSING_VALUES = ("", "nan", "NaN", "NAN", "-nan", "NA", "N/A", "null", "NULL", "none", "None")
"""A reading that failed, as other tools write it."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")
MAX_DIGITS = 20


@dataclass(frozen=True)
class CsvSchema:
    """The columns that a file must have, in any order and among others."""

    labels: tuple[str, ...]
    numbers: tuple[str, ...]
    may_be_empty: bool = False
    """Of rows: the line with the names is always there."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.labels + self.numbers


class BadLabelError(Exception):
    """A label that is no label of its column; who reads the file finds its line."""

    def __init__(self, label: Mapping[str, str], message: str) -> None:
        super().__init__(message)
        self.label = label


@lru_cache(maxsize=100_000)
def normalize_label(label: str) -> str:
    """Labels that are the same number are the same label: ``01``, ``1`` and ``1.0`` become ``1``."""
    text = label.strip()
    if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
        return text
    return f"{Decimal(text).normalize():f}"


def read_header(path: Path, schema: CsvSchema) -> list[str]:
    """The names of all columns, in small letters. Raises :class:`UsageError` where they are not those of the layout."""
    try:
        _, cells = next(_lines(path), (0, []))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as problem:
        raise unreadable_error(path, problem) from None
    names = [cell.strip().lower() for cell in cells]
    columns = ", ".join(schema.names)
    if not names:
        raise UsageError(f"{path}: is empty; its first line names the columns {columns}")
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise UsageError(f"{path}, line 1: columns are separated by {separator!r}; separate them by commas")
    for expected in schema.names:
        if names.count(expected) > 1:
            raise UsageError(f"{path}, line 1: names the column '{expected}' twice; rename or remove one")
        if expected not in names:
            others = [name for name in names if name not in schema.names]
            raise UsageError(
                f"{path}, line 1: no column '{expected}'{_rename_hint(expected, others)}; needed are {columns}"
            )
    return names


def _rename_hint(expected: str, others: Sequence[str]) -> str:
    hint = suggest_name(expected, others)
    return f" ('{hint.split(chr(39))[1]}' may be it: rename it)" if "did you mean" in hint else ""


def unreadable_error(path: Path, problem: Exception) -> UsageError:
    """``path`` can't be read as text at all: why, and the remedy."""
    if isinstance(problem, UnicodeDecodeError):
        return UsageError(f"{path}{_undecodable_line(path)}: is not UTF-8 text; save the file as CSV in UTF-8")
    if isinstance(problem, (EOFError, gzip.BadGzipFile)):
        return UsageError(f"{path}: is no whole gzip file ({problem}); copy it again")
    if isinstance(problem, OSError):
        return UsageError(f"{path}: cannot be read ({problem.strerror or problem}); name a CSV file")
    return UsageError(f"{path}: cannot be read as a CSV file ({problem}); write it anew with one reading a line")


def find_fault(path: Path, schema: CsvSchema, names: Sequence[str]) -> UsageError | None:
    """The first line that is not as the layout wants it."""
    after = 0
    try:
        for number, cells in _lines(path):
            if after and (fault := _fault_of(cells, schema, names)):
                # A quote that is never closed swallows the rest of the file: its first line is the one to look at.
                swallowed = len(cells) < len(names) and number > after + 1 and "\n" in cells[-1]
                return UsageError(f"{path}, line {after + 1 if swallowed else number}: {fault}")
            after = number
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as problem:
        return unreadable_error(path, problem)
    return None


def find_lines(path: Path, names: Sequence[str], expected: Mapping[str, str]) -> list[int]:
    """The lines that carry these labels."""
    places = {names.index(column): label for column, label in expected.items()}

    def matches(cells: Sequence[str]) -> bool:
        return all(label in (cells[place].strip(), normalize_label(cells[place])) for place, label in places.items())

    return [number for number, cells in _lines(path) if len(cells) == len(names) and matches(cells)]


def _fault_of(cells: Sequence[str], schema: CsvSchema, names: Sequence[str]) -> str | None:
    if len(cells) < len(names):
        return (
            f"holds {len(cells)} of {len(names)} values: the line is cut short or a quote is left open; "
            "complete it or remove it"
        )
    if len(cells) > len(names):
        return (
            f"holds {len(cells)} values under {len(names)} column names; put a value with a comma in quotes, "
            "and write decimals with a point"
        )
    values = dict(zip(names, (cell.strip() for cell in cells), strict=True))
    for name in schema.labels:
        if not values[name]:
            return f"its {name} is empty; fill it in or remove the line"
    return next(filter(None, (_number_fault(name, values[name]) for name in schema.numbers)), None)


def _number_fault(name: str, text: str) -> str | None:
    if text in MISSING_VALUES:
        return None
    try:
        value = float(text.replace("_", "?"))
    except ValueError:
        return f"{name} '{text[:40]}' is not a number; write seconds as 0.0123, or nothing where the reading failed"
    if not (value > 0 and math.isfinite(value)):
        return f"{name} {text[:40]} is no length of time; leave it empty where the reading failed"
    return None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not blank, and its values."""
    with open_text(path) as file:
        lines = csv.reader(file, skipinitialspace=True)
        for cells in lines:
            if len(cells) > 1 or any(cell.strip() for cell in cells):
                yield lines.line_num, cells


def open_text(path: Path) -> IO[str]:
    if is_gzip(path):
        return cast(IO[str], gzip.open(path, "rt", newline="", encoding="utf-8-sig"))
    return path.open(newline="", encoding="utf-8-sig")


def is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _undecodable_line(path: Path) -> str:
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f", line {number}"
    return ""
