"""Anyone's nights as series: three CSV files in, what the judge reads out.

``H`` and ``C`` have the columns ``night, benchmark, run, sample, seconds``, ``P`` has ``benchmark, pair, head_s,
base_s``; rows and columns come in any order, other columns are ignored, files may be packed by gzip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, nearest
from harness.histories.long_tables import Words, read_table
from harness.histories.night_order import ranks_of
from harness.histories.table_faults import NUMBER, BadLabelError, Layout, find_lines, read_header
from reports.verdicts.judge import NIGHTS_KEPT
from reports.verdicts.values import NightOfTrials, Series

if TYPE_CHECKING:
    import pandas as pd

READINGS = Layout(labels=("night", "benchmark", "run", "sample"), numbers=("seconds",))
PAIRS = Layout(labels=("benchmark", "pair"), numbers=("head_s", "base_s"), may_be_empty=True)
LEAST_KNOWN = 0.5
"""A trial, or one side of a pair, is left out where a smaller share of its readings is known."""
MOST_NAMED = 3


@dataclass(frozen=True)
class Measured:
    """One benchmark's trials of one night, or its pairs: the logs, and what was left out."""

    logs: tuple[float, ...] = ()
    left_out: tuple[str, ...] = ()

    def said(self, what: str) -> str:
        """``1 of 5 trials left out: run 3 (4 of 20 readings known)``."""
        if not self.left_out:
            return ""
        named = ", ".join(self.left_out[:MOST_NAMED]) + (" …" if len(self.left_out) > MOST_NAMED else "")
        return f"{len(self.left_out)} of {len(self.logs) + len(self.left_out)} {what} left out: {named}"


Nights = dict[str, Measured]
"""By the name of the night, the oldest first."""


def read_histories(history: Path, current: Path, pairs: Path | None, keep: int = NIGHTS_KEPT) -> tuple[Series, ...]:
    """The series of the newest night of ``current`` in its order, then, by name, those that only the history has.

    A trial is one run of a night: ln of the median of its seconds. Where ``current`` holds several nights the earlier
    ones join the history. Rows of ``history`` of that night or later are left out, so that it may be the whole table.
    A row that repeats another counts once. Raises :class:`UsageError` with file, line and remedy; so it does where one
    sample has two different readings: rows have no order, so neither is the later one.
    """
    words = {name: Words() for name in (*READINGS.labels, "pair")}
    nights = words["night"]
    recent = read_table(current, READINGS, words, lambda rows: _newest(rows, _ranks(rows, nights), keep + 1))
    tonight = _name_of_night(nights, _ranks(recent, nights).max())

    def earlier(rows: pd.DataFrame) -> pd.DataFrame:
        ranks = _ranks(rows, nights)
        before = ranks < ranks_of(nights.labels)[nights[tonight]]
        return _newest(rows[before], ranks[before], keep)

    rows = _joined(recent, read_table(history, READINGS, words, earlier), words, (current, history))
    newest = rows["rank"] == rows["rank"].max()
    present = _nights_of_benchmarks(rows[newest], words)
    before = rows[~newest]
    past = _nights_of_benchmarks(_newest(before, before["rank"].to_numpy(), keep), words)
    paired = {} if pairs is None else _read_pairs(pairs, words, tuple(present), tonight)
    judged = (_series(name, past.get(name, {}), measured, paired.get(name)) for name, measured in present.items())
    gone = (_missing(name, past[name], tonight) for name in sorted(past.keys() - present.keys()))
    return (*judged, *gone)


def _ranks(rows: pd.DataFrame, nights: Words) -> Any:
    """An array of the place in time of each row's night."""
    import numpy as np

    return np.array(ranks_of(nights.labels), dtype=np.int64)[rows["night"].to_numpy()]


def _newest(rows: pd.DataFrame, ranks: Any, keep: int) -> pd.DataFrame:
    """The rows of the newest nights of each benchmark, ``keep`` of each."""
    import numpy as np
    import pandas as pd

    if rows.empty:
        return rows
    # One number for a benchmark's night, so that all nights of a benchmark are neighbours, in the order of time.
    span = int(ranks.max()) + 1
    begins = rows["benchmark"].to_numpy(np.int64) * span
    nights = np.sort(pd.unique(begins + ranks))
    first = np.searchsorted(nights, np.arange(begins.max() // span + 2) * span)
    oldest = nights[np.minimum(np.maximum(first[:-1], first[1:] - keep), len(nights) - 1)]
    return rows[begins + ranks >= oldest[begins // span]]


def _name_of_night(nights: Words, rank: int) -> str:
    """Of several spellings always the same, whatever the order of rows."""
    return min(label for label, place in zip(nights.labels, ranks_of(nights.labels), strict=True) if place == rank)


def _joined(
    recent: pd.DataFrame, history: pd.DataFrame, words: Mapping[str, Words], files: Sequence[Path]
) -> pd.DataFrame:
    """All rows, each once. Raises :class:`UsageError` where a sample has two readings."""
    import pandas as pd

    rows = pd.concat([recent, history], ignore_index=True)
    rows["rank"] = _ranks(rows, words["night"])
    sample = ["benchmark", "rank", "run", "sample"]
    rows = rows.drop_duplicates([*sample, "seconds"])
    twice = rows[rows.duplicated(sample)]
    if twice.empty:
        return rows
    labels = {name: words[name].labels[twice[name].iloc[0]] for name in READINGS.labels}
    lines = [f"{path}, line {line}" for path in files for line in find_lines(path, read_header(path, READINGS), labels)]
    told = ", ".join(f"{name} '{label}'" for name, label in labels.items())
    raise UsageError(f"{' and '.join(lines[:2])}: different seconds for one sample ({told}); "
                     "number the samples of a run, or remove one")  # fmt: skip


def _nights_of_benchmarks(rows: pd.DataFrame, words: Mapping[str, Words]) -> dict[str, Nights]:
    """In the order in which the benchmarks appear; runs in the order of their names, numbers first."""
    found: dict[str, Nights] = {words["benchmark"].labels[number]: {} for number in rows["benchmark"].unique()}
    runs = sorted(words["run"], key=_by_number)
    order = {words["run"][run]: place for place, run in enumerate(runs)}
    trials = rows.assign(run=rows["run"].map(order)).groupby(["benchmark", "rank", "run"])["seconds"]
    names = {rank: _name_of_night(words["night"], rank) for rank in rows["rank"].unique()}
    for (benchmark, rank, run), size, known, median in trials.agg(["size", "count", "median"]).itertuples():
        nights = found[words["benchmark"].labels[benchmark]]
        measured = nights.get(names[rank], Measured())
        nights[names[rank]] = _with(measured, f"run {runs[run]}", size, known, median)
    return found


def _with(measured: Measured, name: str, size: int, known: int, value: float) -> Measured:
    if known and known >= LEAST_KNOWN * size:
        return Measured((*measured.logs, math.log(value)), measured.left_out)
    return Measured(measured.logs, (*measured.left_out, f"{name} ({known} of {size} readings known)"))


def _by_number(label: str) -> tuple[bool, Decimal, str]:
    number = bool(NUMBER.fullmatch(label))
    return not number, Decimal(label) if number else Decimal(0), label


def _read_pairs(path: Path, words: dict[str, Words], known: tuple[str, ...], tonight: str) -> dict[str, Measured]:
    """The pairs of each benchmark in the order of their numbers; several samples of a pair count as their medians."""
    table = read_table(path, PAIRS, words, lambda rows: _checked(rows, words, known, tonight))
    order = {words["pair"][pair]: place for place, pair in enumerate(sorted(words["pair"], key=_by_number))}
    groups = table.assign(place=table["pair"].map(order)).groupby(["benchmark", "place", "pair"])
    found: dict[str, Measured] = {}
    sides = groups[["head_s", "base_s"]].agg(["size", "count", "median"])
    for (benchmark, _, pair), size, head, head_s, _, base, base_s in sides.itertuples():
        name = words["benchmark"].labels[benchmark]
        said = f"pair {words['pair'].labels[pair]}"
        found[name] = _with(found.get(name, Measured()), said, size, min(head, base), head_s / base_s)
    return found


def _checked(rows: pd.DataFrame, words: Mapping[str, Words], known: tuple[str, ...], tonight: str) -> pd.DataFrame:
    for number in rows["benchmark"].unique():
        name = words["benchmark"].labels[number]
        if name not in known:
            raise BadLabelError({"benchmark": name}, f"night {tonight} has no benchmark '{name}'{nearest(name, known)}")
    for label in words["pair"]:
        if not NUMBER.fullmatch(label):
            raise BadLabelError({"pair": label}, f"pair '{label[:40]}' is not a number; number the pairs as they ran")
    return rows


def _series(name: str, past: Nights, newest: Nights, paired: Measured | None) -> Series:
    ((night, trials),) = newest.items()
    paired = paired or Measured()
    told = "; ".join(filter(None, (trials.said("trials"), paired.said("pairs"))))
    return Series(
        name=name,
        past=_past(past),
        newest=NightOfTrials(night=night, logs=trials.logs) if trials.logs else None,
        outcome=None if trials.logs else "failed",
        reason=told if trials.logs else f"night {night} gave no number; {told}",
        pairs=paired.logs,
    )


def _past(nights: Nights) -> tuple[NightOfTrials, ...]:
    return tuple(NightOfTrials(night=night, logs=trials.logs) for night, trials in nights.items() if trials.logs)


def _missing(name: str, past: Nights, tonight: str) -> Series:
    said = f"night {tonight} has no reading of it, last was {list(past)[-1]}; where it was retired, remove its history"
    return Series(name=name, past=_past(past), outcome="missing", reason=said)
