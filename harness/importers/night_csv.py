"""``check --history H --current C --pairs P``: CSV files of another tool's readings become series to judge.

``H`` and ``C`` have the columns ``night, benchmark, run, sample, seconds``, ``P`` has ``benchmark, pair, head_s,
base_s``. Rows and columns may be in any order, files may be compressed by gzip. A night is a number, a version, or an
ISO 8601 date or date-time, of one kind throughout. Where all nights are versions they are ordered as such: 3.9, 3.10.
Whole numbers are versions too.

The columns of :data:`PLACE_COLUMNS` may be there, and part the rows into series: a benchmark at one place is one.
Other columns are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.importers.csv_labels import BadLabelError, LabelCodes, split_benchmark
from harness.importers.csv_rows import NUMBER
from harness.importers.csv_table import ChunkSizes, TableSchema, find_lines, read_table
from harness.importers.night_order import night_positions
from harness.importers.night_places import TablePlaces, check_same_columns, match_pair_label, table_places
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.values import MetricSeries, NightTrials

if TYPE_CHECKING:
    import pandas as pd

PLACE_COLUMNS = ("environment", "place", "machine", "host", "os", "cpu", "gpu", "python")
"""Columns that say where a row was measured."""


READING_COLUMNS = TableSchema(labels=("night", "benchmark", "run", "sample"), numbers=("seconds",), place=PLACE_COLUMNS)
PAIR_COLUMNS = TableSchema(
    labels=("benchmark", "pair"), numbers=("head_s", "base_s"), may_be_empty=True, place=PLACE_COLUMNS
)
MIN_KNOWN_SHARE = 0.5
"""A trial, or one side of a pair, is left out where a smaller share of its readings succeeded."""
MAX_NAMED = 3


@dataclass(frozen=True)
class BenchmarkValues:
    """One benchmark's trials of one night, or its pairs: logs of seconds (or of ratios), and what was left out."""

    logs: tuple[float, ...] = ()
    left_out: tuple[str, ...] = ()

    def summary(self, what: str) -> str:
        """``1 of 5 trials left out: run 3 (4 of 20 readings known)``."""
        if not self.left_out:
            return ""
        named = ", ".join(self.left_out[:MAX_NAMED]) + (" …" if len(self.left_out) > MAX_NAMED else "")
        return f"{len(self.left_out)} of {len(self.logs) + len(self.left_out)} {what} left out: {named}"


ValuesByNight = dict[str, BenchmarkValues]
"""By night, the oldest first."""


def read_histories(
    history: Path, current: Path, pairs: Path | None, keep: int = NIGHTS_KEPT, chunks: ChunkSizes = ChunkSizes()
) -> tuple[MetricSeries, ...]:
    """Read series in the order of the newest night, then by name those that only the history has.

    A trial is one run of a night: ln of the median of its seconds. A row that repeats another counts once.

    Args:
        history: Earlier nights. Rows of the newest night or later are left out, so that it may be the whole table.
        current: The newest night. Earlier nights in it are added to the history.
        pairs: Interleaved runs of head and base for the newest night.
        keep: Nights that are kept of each benchmark.
        chunks: How much of a file is held at once.

    Raises:
        UsageError: With file, line and remedy; also where one sample has two different readings.
    """
    check_same_columns(history, current, READING_COLUMNS.csv, PLACE_COLUMNS)
    label_codes = {name: LabelCodes() for name in (*READING_COLUMNS.labels, "pair")}
    nights = label_codes["night"]
    recent = read_table(
        current,
        READING_COLUMNS,
        label_codes,
        lambda rows: _keep_newest(rows, _night_positions_of(rows, nights), keep + 1),
        chunks,
    )
    newest_night = _name_of_night(nights, _night_positions_of(recent, nights).max())

    def earlier(rows: pd.DataFrame) -> pd.DataFrame:
        positions = _night_positions_of(rows, nights)
        before = positions < night_positions(nights.labels)[nights[newest_night]]
        return _keep_newest(rows[before], positions[before], keep)

    past_rows = read_table(history, READING_COLUMNS, label_codes, earlier, chunks)
    rows = _join_tables(recent, past_rows, label_codes, (current, history))
    newest = rows["rank"] == rows["rank"].max()
    present = _nights_of_benchmarks(rows[newest], label_codes)
    before = rows[~newest]
    past = _nights_of_benchmarks(_keep_newest(before, before["rank"].to_numpy(), keep), label_codes)
    paired = {} if pairs is None else _read_pairs(pairs, label_codes, tuple(present), newest_night)
    order = {_name_of_night(nights, rank): int(rank) for rank in before["rank"].unique()}
    places = table_places(present, past, order)
    succeeded = {old for name in present if (old := places.predecessor(name, past)) is not None}
    judged = (
        _at_place(name, places, past, _series(past.get(name, {}), measured, paired.get(name)))
        for name, measured in present.items()
    )
    gone = sorted(past.keys() - present.keys() - succeeded)
    missing = (_at_place(name, places, past, _missing(past[name], newest_night)) for name in gone)
    return (*judged, *missing)


def _at_place(name: str, places: TablePlaces, past: Mapping[str, ValuesByNight], series: MetricSeries) -> MetricSeries:
    """The series under the name that is shown; incomparable where only another place was measured earlier."""
    named = series.model_copy(update={"name": places.name(name)})
    predecessor = places.predecessor(name, past)
    if predecessor is None or named.outcome is not None:
        return named
    return named.model_copy(update={"outcome": "incomparable", "reason": places.why_incomparable(name, predecessor)})


def _night_positions_of(rows: pd.DataFrame, nights: LabelCodes) -> Any:
    """An array of the position in time of each row's night."""
    import numpy as np

    return np.array(night_positions(nights.labels), dtype=np.int64)[rows["night"].to_numpy()]


def _keep_newest(rows: pd.DataFrame, positions: Any, keep: int) -> pd.DataFrame:
    """The rows of the newest ``keep`` nights of each benchmark."""
    import numpy as np
    import pandas as pd

    if rows.empty:
        return rows
    # One number for a night of a benchmark: nights of a benchmark are adjacent, in the order of time.
    span = int(positions.max()) + 1
    benchmark_offset = rows["benchmark"].to_numpy(np.int64) * span
    nights = np.sort(pd.unique(benchmark_offset + positions))
    first = np.searchsorted(nights, np.arange(benchmark_offset.max() // span + 2) * span)
    oldest = nights[np.minimum(np.maximum(first[:-1], first[1:] - keep), len(nights) - 1)]
    return rows[benchmark_offset + positions >= oldest[benchmark_offset // span]]


def _name_of_night(nights: LabelCodes, rank: int) -> str:
    """The label of a night; of several spellings the smallest."""
    return min(
        label for label, place in zip(nights.labels, night_positions(nights.labels), strict=True) if place == rank
    )


def _join_tables(
    recent: pd.DataFrame, history: pd.DataFrame, label_codes: Mapping[str, LabelCodes], files: Sequence[Path]
) -> pd.DataFrame:
    """All rows without repetitions. Raises :class:`UsageError` where a sample has two readings."""
    import pandas as pd

    rows = pd.concat([recent, history], ignore_index=True)
    rows["rank"] = _night_positions_of(rows, label_codes["night"])
    sample = ["benchmark", "rank", "run", "sample"]
    rows = rows.drop_duplicates([*sample, "seconds"])
    twice = rows[rows.duplicated(sample)]
    if twice.empty:
        return rows
    labels = {name: label_codes[name].labels[twice[name].iloc[0]] for name in READING_COLUMNS.labels}
    benchmark, place = split_benchmark(labels["benchmark"])
    labels = {**labels, "benchmark": benchmark, **place}
    lines = [f"{path}:{line}" for path in files for line in find_lines(path, READING_COLUMNS, labels)]
    details = ", ".join(f"{name} '{label}'" for name, label in labels.items())
    raise UsageError(
        f"{' and '.join(lines[:2])}: different seconds for one sample ({details}); "
        "number the samples of a run, or remove one"
    )


def _nights_of_benchmarks(rows: pd.DataFrame, label_codes: Mapping[str, LabelCodes]) -> dict[str, ValuesByNight]:
    """Values by benchmark, in the order in which benchmarks appear; runs in the order of their names, numbers first."""
    by_benchmark: dict[str, ValuesByNight] = {
        label_codes["benchmark"].labels[number]: {} for number in rows["benchmark"].unique()
    }
    runs = sorted(label_codes["run"], key=_by_number)
    order = {label_codes["run"][run]: place for place, run in enumerate(runs)}
    trials = rows.assign(run=rows["run"].map(order)).groupby(["benchmark", "rank", "run"])["seconds"]
    names = {rank: _name_of_night(label_codes["night"], rank) for rank in rows["rank"].unique()}
    for (benchmark, rank, run), size, known, median in trials.agg(["size", "count", "median"]).itertuples():
        nights = by_benchmark[label_codes["benchmark"].labels[benchmark]]
        measured = nights.get(names[rank], BenchmarkValues())
        nights[names[rank]] = _add_values(measured, f"run {runs[run]}", size, known, median)
    return by_benchmark


def _add_values(measured: BenchmarkValues, name: str, size: int, known: int, value: float) -> BenchmarkValues:
    if known and known >= MIN_KNOWN_SHARE * size:
        return BenchmarkValues((*measured.logs, math.log(value)), measured.left_out)
    return BenchmarkValues(measured.logs, (*measured.left_out, f"{name} ({known} of {size} readings known)"))


def _by_number(label: str) -> tuple[bool, Decimal, str]:
    number = bool(NUMBER.fullmatch(label))
    return not number, Decimal(label) if number else Decimal(0), label


def _read_pairs(
    path: Path, label_codes: dict[str, LabelCodes], known: tuple[str, ...], newest_night: str
) -> dict[str, BenchmarkValues]:
    """The pairs of each benchmark in the order of their numbers, each the ratio of its sides' medians."""
    table = read_table(
        path, PAIR_COLUMNS, label_codes, lambda rows: _check_pair_labels(rows, label_codes, known, newest_night)
    )
    order = {label_codes["pair"][pair]: place for place, pair in enumerate(sorted(label_codes["pair"], key=_by_number))}
    groups = table.assign(place=table["pair"].map(order)).groupby(["benchmark", "place", "pair"])
    by_benchmark: dict[str, BenchmarkValues] = {}
    sides = groups[["head_s", "base_s"]].agg(["size", "count", "median"])
    for (benchmark, _, pair), size, head, head_s, _, base, base_s in sides.itertuples():
        name = match_pair_label(label_codes["benchmark"].labels[benchmark], known, newest_night)
        summary = f"pair {label_codes['pair'].labels[pair]}"
        by_benchmark[name] = _add_values(
            by_benchmark.get(name, BenchmarkValues()), summary, size, min(head, base), head_s / base_s
        )
    return by_benchmark


def _check_pair_labels(
    rows: pd.DataFrame, label_codes: Mapping[str, LabelCodes], known: tuple[str, ...], newest_night: str
) -> pd.DataFrame:
    for number in rows["benchmark"].unique():
        match_pair_label(label_codes["benchmark"].labels[number], known, newest_night)
    for label in label_codes["pair"]:
        if not NUMBER.fullmatch(label):
            raise BadLabelError({"pair": label}, f"pair '{label[:40]}' is not a number; number the pairs as they ran")
    return rows


def _series(past: ValuesByNight, newest: ValuesByNight, paired: BenchmarkValues | None) -> MetricSeries:
    ((night, trials),) = newest.items()
    paired = paired or BenchmarkValues()
    details = "; ".join(filter(None, (trials.summary("trials"), paired.summary("pairs"))))
    return MetricSeries(
        name="",
        past=_past(past),
        newest=NightTrials(night=night, logs=trials.logs) if trials.logs else None,
        outcome=None if trials.logs else "failed",
        reason=details if trials.logs else f"night {night} gave no number; {details}",
        pairs=paired.logs,
    )


def _past(nights: ValuesByNight) -> tuple[NightTrials, ...]:
    return tuple(NightTrials(night=night, logs=trials.logs) for night, trials in nights.items() if trials.logs)


def _missing(past: ValuesByNight, newest_night: str) -> MetricSeries:
    summary = (
        f"night {newest_night} has no reading of it, last was "
        f"{list(past)[-1]}; where it was retired, remove its history"
    )
    return MetricSeries(name="", past=_past(past), outcome="missing", reason=summary)
