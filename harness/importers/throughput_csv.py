"""``fit FILE.csv``: throughputs by rank count and curve from a CSV file of any tool, or from an export of a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.importers.csv_rows import Column, CsvSchema, csv_error, parse_number, read_rows
from harness.planning.limits import MAX_RANKS
from reports.formats.columns import LIST_SEPARATOR
from reports.formats.csv_cells import unescape_cell
from reports.formats.trial_rows import COLLECTIVE_UNIT, NO_SCALING_CLAIM
from reports.regression.places import Place, place_labels, place_of

MAX_THROUGHPUT = 1e60
CURVE = "curve"
# Columns of an export that say whether a row counts, and with which others.
OUTCOME, FLAGS, ENVIRONMENT, UNIT, SCALING = "outcome", "flags", "environment", "unit", "scaling"
PLACE_COLUMNS = ("machine", "cpu", "gpu", "python")
"""Other tools' columns that say where a row was measured. Not the host: each rank count may have run on other nodes."""
OK, WEAK = "ok", "weak"
UNNAMED_CURVE = "all"
"""The name of the curve in a file without a ``curve`` column."""

CurveAtPlace = tuple[str, Place]
ThroughputsByCurve = dict[str, dict[int, list[float]]]
"""By curve and rank count, one value a repeat."""


def parse_rank_count(text: str) -> int:
    """A whole number from 1 to :data:`MAX_RANKS`."""
    number = parse_number(text)
    if not 1 <= number <= MAX_RANKS or number != int(number):
        raise ValueError(f"is no rank count; give a whole number from 1 to {MAX_RANKS}")
    return int(number)


def parse_throughput(text: str) -> float:
    """A positive number that can be calculated with, in any unit."""
    number = parse_number(text)
    if number <= 0:
        raise ValueError("is no throughput; give a number above 0")
    if not 1 / MAX_THROUGHPUT < number < MAX_THROUGHPUT:
        raise ValueError("is out of range; choose another unit")
    return number


RANKS = Column("ranks", parse_rank_count, alias="n")
THROUGHPUT = Column("throughput", parse_throughput)
SCHEMA = CsvSchema((RANKS, THROUGHPUT))


@dataclass(frozen=True)
class ThroughputTable:
    """The throughputs of a file."""

    throughputs: ThroughputsByCurve
    left_out: dict[str, int]
    """Number of rows that were left out, by reason."""
    weak: frozenset[str]
    """The curves of weak scaling, according to a column ``scaling``."""


def read_throughputs(path: Path) -> ThroughputTable:
    """Read a file with the columns ``ranks`` (or ``n``) and ``throughput``, and perhaps ``curve``.

    Rows of an export that gave no number or support no scaling claim are left out. Curves of several environments are
    kept apart, and so are those of several :data:`PLACE_COLUMNS` where no environment is given. Raises
    :class:`harness.errors.UsageError` with file and line for anything else that is no number.
    """
    by_key: dict[CurveAtPlace, dict[int, list[float]]] = {}
    left_out: Counter[str] = Counter()
    weak: set[CurveAtPlace] = set()
    for row in read_rows(path, SCHEMA):
        texts = {name: unescape_cell(text) for name, text in row.texts.items()}
        if not any(texts.values()):
            continue
        if reason := _exclusion_reason(texts):
            left_out[reason] += 1
            continue
        key = (texts.get(CURVE, UNNAMED_CURVE), _place(texts))
        by_key.setdefault(key, {}).setdefault(row.parse(RANKS), []).append(row.parse(THROUGHPUT))
        if texts.get(SCALING) == WEAK:
            weak.add(key)
    if not by_key:
        excluded = "; ".join(f"{count} left out: {reason}" for reason, count in left_out.items())
        details = f" to fit ({excluded})" if excluded else ""
        raise csv_error(path, None, f"holds no rows{details}; give ranks and throughput, a line each")
    names = _curve_names(list(by_key))
    throughputs = {names[key]: by_ranks for key, by_ranks in by_key.items()}
    return ThroughputTable(throughputs, dict(left_out), frozenset(names[key] for key in weak))


def _exclusion_reason(texts: Mapping[str, str]) -> str | None:
    """Why a row does not count. A throughput may be empty only where the outcome says why."""
    outcome = texts.get(OUTCOME) or OK
    if outcome != OK and not texts[THROUGHPUT.name]:
        return f"{OUTCOME} {outcome}"
    if texts.get(UNIT) == COLLECTIVE_UNIT:
        return "a collective alone has no speed-up"
    return next(iter(sorted(NO_SCALING_CLAIM.intersection(texts.get(FLAGS, "").split(LIST_SEPARATOR)))), None)


def _place(texts: Mapping[str, str]) -> Place:
    columns = (ENVIRONMENT,) if texts.get(ENVIRONMENT) else PLACE_COLUMNS
    return place_of({name: texts[name] for name in columns if texts.get(name)})


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
