"""``fit FILE.csv``: throughputs by rank count and curve from a CSV file of any tool, or from an export of a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError, suggest_name
from harness.importers.csv_rows import CsvSchema, Row, csv_error, read_header, read_names, read_rows
from harness.importers.throughput_columns import (
    RANKS,
    SECONDS,
    THROUGHPUT,
    Groups,
    may_be_group,
    per_rank_hint,
)
from reports.formats.columns import LIST_SEPARATOR
from reports.formats.csv_cells import unescape_cell
from reports.formats.trial_rows import COLLECTIVE_UNIT, NO_SCALING_CLAIM
from reports.regression.places import Place, place_labels, place_of

CURVE = "curve"
# Columns of an export that say whether a row counts, and with which others.
OUTCOME, FLAGS, ENVIRONMENT, UNIT, SCALING = "outcome", "flags", "environment", "unit", "scaling"
PLACE_COLUMNS = ("machine", "cpu", "gpu", "python")
"""Other tools' columns that say where a row was measured. Not the host: each rank count may have run on other nodes."""
OK, WEAK = "ok", "weak"
UNNAMED_CURVE = "all"
"""The name of the curve in a file without a ``curve`` column."""
SEPARATORS = ",;\t"
EXPORTED = frozenset({"sweep", "case", "curve"})
"""Columns of our own exports, where ``curve`` separates what must not be pooled."""
MEANT = (CURVE, OUTCOME, FLAGS, ENVIRONMENT, UNIT, SCALING, *PLACE_COLUMNS)

CurveAtPlace = tuple[str, Place]
ThroughputsByCurve = dict[str, dict[int, list[float]]]
"""By curve and rank count, one value a repeat."""


@dataclass(frozen=True)
class RowChoice:
    """Which rows of a table are read, and how they are put together.

    Args:
        where: The value that a column must have, by column.
        by: Columns whose values separate curves.
        per_rank: Whether throughputs are those of a rank.
        scaling: ``weak``: a duration is that of work that grows with the rank count.
    """

    where: Mapping[str, str]
    by: tuple[str, ...] = ()
    per_rank: bool = False
    scaling: str | None = None


ALL_ROWS = RowChoice({})


@dataclass(frozen=True)
class ThroughputTable:
    """The throughputs of a file."""

    throughputs: ThroughputsByCurve
    left_out: dict[str, int]
    """Number of rows that were left out, by reason."""
    weak: frozenset[str]
    """The curves of weak scaling, according to a column ``scaling``."""
    notes: tuple[str, ...] = ()
    """What was read as what, what was ignored, and what looks odd."""


def parse_where(conditions: Sequence[str]) -> dict[str, str]:
    """``["batch=32"]`` → ``{"batch": "32"}``. Raises :class:`UsageError`."""
    pairs = [condition.partition("=") for condition in conditions]
    if wrong := next(("".join(pair) for pair in pairs if not pair[0].strip() or not pair[1]), None):
        raise UsageError(f"--where {wrong}: expected COLUMN=VALUE, for example --where batch=32")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def read_throughputs(path: Path, choice: RowChoice = ALL_ROWS) -> ThroughputTable:
    """Read a file with a column of rank counts, one of throughputs or of durations, and perhaps ``curve``.

    Rows of an export that gave no number or support no scaling claim are left out. Curves of several environments are
    kept apart, and so are those of several :data:`PLACE_COLUMNS` where no environment is given.

    Args:
        path: The file; its columns may be separated by commas, semicolons or tabs.
        choice: Which of its rows are read.

    Raises:
        UsageError: With file and line for anything else that is no number; or a column looks like a group, whose rows
            would be pooled.
    """
    schema, names = _schema(path)
    _check_names(path, names, choice)
    ignored = [name for name in names if name not in (*MEANT, RANKS.name, schema.columns[1].name, *choice.where)]
    ignored = [name for name in ignored if name and name not in choice.by and not set(names) >= EXPORTED]
    groups: dict[CurveAtPlace, Groups] = {}
    by_key: dict[CurveAtPlace, dict[int, list[float]]] = {}
    left_out: Counter[str] = Counter()
    weak: set[CurveAtPlace] = set()
    other_counts: dict[str, set[str]] = {name: set() for name in ignored if name in RANKS.aliases}
    for row in read_rows(path, schema):
        texts = {name: unescape_cell(text) for name, text in row.texts.items()}
        if not any(texts.values()):
            continue
        if reason := _exclusion_reason(texts, schema, choice.where):
            left_out[reason] += 1
            continue
        key = (_curve(texts, choice.by), _place(texts))
        is_weak = (choice.scaling or texts.get(SCALING)) == WEAK
        ranks, throughput = row.parse(RANKS), _throughput(row, schema, is_weak=is_weak)
        by_key.setdefault(key, {}).setdefault(ranks, []).append(throughput * (ranks if choice.per_rank else 1))
        for name, values in other_counts.items():
            values.add(texts[name])
        groups.setdefault(key, Groups([name for name in ignored if may_be_group(name)])).add(texts, ranks)
        if texts.get(SCALING) == WEAK:
            weak.add(key)
    if not by_key:
        excluded = "; ".join(f"{count} left out: {reason}" for reason, count in left_out.items())
        details = f" to fit ({excluded})" if excluded else ""
        raise csv_error(path, None, f"holds no rows{details}; give ranks and throughput, a line each")
    _refuse_groups(path, groups)
    _refuse_constant_ranks(path, by_key, other_counts)
    curve_names = _curve_names(list(by_key))
    throughputs = {curve_names[key]: by_ranks for key, by_ranks in by_key.items()}
    notes = (*_reading_notes(schema, ignored), *_per_rank_notes(throughputs, choice))
    return ThroughputTable(throughputs, dict(left_out), frozenset(curve_names[key] for key in weak), notes)


def _schema(path: Path) -> tuple[CsvSchema, list[str]]:
    """The columns that are read of a file, and the names of all: those that are read by their own."""
    schema = CsvSchema((RANKS, THROUGHPUT), separators=SEPARATORS)
    names = read_names(path, schema)
    if THROUGHPUT.name not in names and {SECONDS.name, *SECONDS.aliases} & {*names}:
        schema = replace(schema, columns=(RANKS, SECONDS))
    return schema, read_header(path, schema)


def _check_names(path: Path, names: Sequence[str], choice: RowChoice) -> None:
    for option, given in (("--where", choice.where), ("--by", choice.by)):
        if unknown := next((name for name in given if name not in names), None):
            raise csv_error(path, 1, f"no column '{unknown}' for {option}{suggest_name(unknown, names)}")


def _exclusion_reason(texts: Mapping[str, str], schema: CsvSchema, where: Mapping[str, str]) -> str | None:
    """Why a row does not count. A number may be empty only where the outcome says why."""
    if other := next((name for name, value in where.items() if texts[name] != value), None):
        return f"{other} is not {where[other]}"
    outcome = texts.get(OUTCOME) or OK
    if outcome != OK and not texts[schema.columns[1].name]:
        return f"{OUTCOME} {outcome}"
    if texts.get(UNIT) == COLLECTIVE_UNIT:
        return "a collective alone has no speed-up"
    return next(iter(sorted(NO_SCALING_CLAIM.intersection(texts.get(FLAGS, "").split(LIST_SEPARATOR)))), None)


def _throughput(row: Row, schema: CsvSchema, *, is_weak: bool) -> float:
    """Work per unit of time. Of a duration: the same work, or under weak scaling a rank's share of it for each rank."""
    value = row.parse(schema.columns[1])
    if schema.columns[1] is THROUGHPUT:
        return float(value)
    return (row.parse(RANKS) if is_weak else 1) / float(value)


def _curve(texts: Mapping[str, str], by: Sequence[str]) -> str:
    parts = [texts[CURVE]] if CURVE in texts else []
    parts += [f"{name}={texts[name]}" for name in by]
    return ", ".join(parts) or UNNAMED_CURVE


def _place(texts: Mapping[str, str]) -> Place:
    columns = (ENVIRONMENT,) if texts.get(ENVIRONMENT) else PLACE_COLUMNS
    return place_of({name: texts[name] for name in columns if texts.get(name)})


def _refuse_groups(path: Path, groups: Mapping[CurveAtPlace, Groups]) -> None:
    for found in groups.values():
        for name, values in found.found().items():
            shown = ", ".join(values[:3]) + (", …" if len(values) > 3 else "")
            message = f"column '{name}' looks like a group ({shown}), whose rows are different curves"
            raise csv_error(path, 1, f"{message}; give --by {name}, --where {name}={values[0]}, or remove the column")


def _refuse_constant_ranks(
    path: Path, by_key: Mapping[CurveAtPlace, Mapping[int, object]], other_counts: Mapping[str, set[str]]
) -> None:
    """GPUs of a node, beside a column of nodes, are no rank counts."""
    counts = {ranks for by_ranks in by_key.values() for ranks in by_ranks}
    varying = next((name for name, values in other_counts.items() if len(values) > 1), None)
    if len(counts) == 1 and varying is not None:
        message = f"the rank count is {counts.pop()} in every row, and '{varying}' varies"
        raise csv_error(path, 1, f"{message}; name the column of all ranks 'ranks'")


def _reading_notes(schema: CsvSchema, ignored: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if schema.columns[1] is SECONDS:
        notes.append("throughput is 1 ÷ seconds, or ranks ÷ seconds under weak scaling")
    if ignored:
        notes.append(f"ignored columns: {', '.join(dict.fromkeys(ignored))}")
    return tuple(notes)


def _per_rank_notes(throughputs: ThroughputsByCurve, choice: RowChoice) -> tuple[str, ...]:
    if choice.per_rank:
        return ()
    hints = {curve: per_rank_hint(by_ranks) for curve, by_ranks in throughputs.items()}
    return tuple(f"{curve}: {hint}" for curve, hint in hints.items() if hint)


def _curve_names(keys: Sequence[CurveAtPlace]) -> dict[CurveAtPlace, str]:
    """Names by curve and place: a curve from several places is several curves."""
    places: dict[str, list[Place]] = {}
    for curve, place in keys:
        places.setdefault(curve, []).append(place)
    labels = {curve: place_labels(there) for curve, there in places.items()}
    names = {}
    for curve, place in keys:
        label = labels[curve][place].removeprefix(f"{ENVIRONMENT} ")
        names[curve, place] = f"{curve} ({label})" if label else curve
    return names
