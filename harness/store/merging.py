"""``merge``: copy what another store holds and this one does not, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import ValidationError
from rich.console import Console

from bench.core.bounds import describe_invalid
from bench.core.frozen_model import FrozenModel
from bench.core.records import Trial
from harness.errors import UsageError
from harness.store.database import OTHER_STORE_HINT, Database
from harness.store.derived import record_measures, record_night
from harness.store.foreign import named_sweeps, typed_rows
from harness.store.labels import read_labels
from harness.store.ledger import RECORD_NAMES, Acceptance, IngestedRun, PairTrial
from harness.store.left_out import log_left_out, read_record, record_json, trial_title
from harness.store.location import is_same_store, store_label
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from harness.store.tables import (
    NIGHTLY_TABLES,
    acceptances_table,
    add_missing,
    environments_table,
    labels_table,
    pairs_table,
    runs_table,
    sweeps_table,
    trials_table,
    verdicts_table,
)
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.regression.values import Verdict

ROWS_AT_ONCE = 10
"""A pair's row holds a trial with all of its steps."""
NIGHTLY_RECORDS: dict[str, tuple[type[FrozenModel], str]] = {
    verdicts_table.name: (Verdict, RECORD_NAMES[Verdict]),
    acceptances_table.name: (Acceptance, RECORD_NAMES[Acceptance]),
    pairs_table.name: (PairTrial, RECORD_NAMES[PairTrial]),
    runs_table.name: (IngestedRun, RECORD_NAMES[IngestedRun]),
}
RETRY_HINT = f"then repeat the merge, or {OTHER_STORE_HINT}"


@dataclass(frozen=True)
class MergeResult:
    """What was copied, and was not there before."""

    sweeps: tuple[str, ...]
    completed: tuple[str, ...]
    """Sweeps that were there, and got trials or their end."""
    trials: int
    left_out: tuple[str, ...]
    """Records that can't be read, or do not belong where they are."""
    beside: dict[str, int]
    """Number of verdicts, acceptances, pairs and ingested runs by table."""
    labels: int = 0
    """Sweeps that got the other store's title, note and tags."""

    def as_json(self) -> dict[str, Any]:
        return versioned("merge", asdict(self))

    def print(self, console: Console) -> None:
        counts = {
            "sweeps": len(self.sweeps),
            "sweeps completed": len(self.completed),
            "trials": self.trials,
            "left out": len(self.left_out),
            "labels": self.labels,
            **{name.replace("_", " "): count for name, count in self.beside.items()},
        }
        summary = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
        print_line(console, f"merged: {summary or 'nothing, all of it is here'}")


class _MergedSweep(NamedTuple):
    sweep: str
    new: bool
    ended: bool
    trials: int
    left_out: Sequence[str]
    readable: bool = True


def merge(other_url: str, store_url: str) -> MergeResult:
    """Copy the other store's sweeps, trials, verdicts, acceptances, pairs and ingested runs in one transaction.

    Where both stores have a record with the same key, this store's stays.

    Raises:
        UsageError: Where both are the same store.
        StoreError: Where one of them cannot be read or written.
    """
    if is_same_store(other_url, store_url):
        raise UsageError(f"merge: {store_label(other_url)} is the store itself; name another")
    other = open_store(other_url, create=False)
    store = open_store(store_url, create=True)
    try:
        return _merge_stores(other.database, store.database)
    finally:
        other.close()
        store.close()


def _merge_stores(other: Database, store: Database) -> MergeResult:
    """Read and write separately, so that an error names the store that caused it."""
    sweeps = _rows(other, sa.select(sweeps_table).order_by(sweeps_table.c.started_at, sweeps_table.c.id))
    with other.reading() as connection:
        present = sa.inspect(connection).get_table_names()
    with store.writing(RETRY_HINT) as connection_to:
        named = set(named_sweeps((sweep["id"] for sweep in sweeps), other.label))
        merged = [_merge_sweep(other, connection_to, sweep) for sweep in sweeps if sweep["id"] in named]
        beside = {
            table.name: _copy_rows(other, connection_to, table) for table in NIGHTLY_TABLES if table.name in present
        }
        readable = {sweep.sweep for sweep in merged if sweep.readable}
        labelled = _merge_labels(other, connection_to, readable)
    return MergeResult(
        sweeps=tuple(sweep.sweep for sweep in merged if sweep.new),
        completed=tuple(sweep.sweep for sweep in merged if not sweep.new and (sweep.ended or sweep.trials)),
        trials=sum(sweep.trials for sweep in merged),
        left_out=tuple(title for sweep in merged for title in sweep.left_out),
        beside=beside,
        labels=labelled,
    )


def _merge_sweep(other: Database, connection_to: sa.Connection, sweep: dict[str, Any]) -> _MergedSweep:
    """Copy a sweep, which may be running: whether it has ended was read before its trials."""
    name = f"sweep {sweep['id']}"
    info = read_record(other.label, SweepInfo, name, sweep["body"])
    if info is not None and info.id != sweep["id"]:
        log_left_out(other.label, name, "its record is that of another sweep")
        info = None
    if info is None:
        return _MergedSweep(sweep["id"], new=False, ended=False, trials=0, left_out=[name], readable=False)
    environment = {"id": sweep["environment"], "body": info.environment.model_dump_json()}
    add_missing(connection_to, environments_table, [environment])
    new = bool(add_missing(connection_to, sweeps_table, [sweep]))
    record_night(connection_to, info.id, info.suite.name)
    still_open = sa.and_(sweeps_table.c.id == info.id, sweeps_table.c.finished_at.is_(None))
    end = sweeps_table.update().where(still_open).values(finished_at=sweep["finished_at"])
    ended = not new and sweep["finished_at"] is not None and bool(connection_to.execute(end).rowcount)
    return _MergedSweep(info.id, new, ended, *_merge_trials(other, connection_to, info.id))


def _merge_labels(other: Database, connection_to: sa.Connection, sweeps: Collection[str]) -> int:
    """Copy title, note and tags of sweeps that have none here; returns the number of sweeps that got some."""
    labels = read_labels(other)
    rows = [{"sweep": sweep, "body": labels[sweep].model_dump_json()} for sweep in sorted(labels.keys() & sweeps)]
    return add_missing(connection_to, labels_table, rows)


def _merge_trials(other: Database, connection_to: sa.Connection, sweep: str) -> tuple[int, list[str]]:
    """Copy trials, one after the other. Each is parsed, and measured again, whatever the other's format; those that
    can't be read are left out.

    Returns:
        The number of trials that were copied, and the titles of those that were left out.
    """
    table = trials_table
    keys = sa.select(table.c.key, table.c.round).where(table.c.sweep == sweep)
    present = {tuple(row) for row in connection_to.execute(keys)}
    merged, left_out = 0, []
    for key, number in (tuple(row.values()) for row in _rows(other, keys.order_by(table.c.key, table.c.round))):
        if (key, number) not in present:
            here = sa.and_(table.c.sweep == sweep, table.c.key == key, table.c.round == number)
            (row,) = _rows(other, sa.select(table).where(here))
            trial = _parse_trial(other, row)
            if trial is None:
                left_out.append(trial_title(key, number))
            elif add_missing(connection_to, table, [row]):
                record_measures(connection_to, sweep, trial)
                merged += 1
    return merged, left_out


def _parse_trial(other: Database, row: dict[str, Any]) -> Trial | None:
    """A trial of the other store; ``None`` of a record that can't be read, or is that of another trial."""
    try:
        trial = Trial.model_validate_json(record_json(row["body"]))
    except ValidationError as invalid:
        problem = describe_invalid(invalid)
    else:
        if (trial.case.key, trial.round, trial.outcome) == (row["key"], row["round"], row["outcome"]):
            return trial
        problem = "its record is that of another trial"
    log_left_out(other.label, trial_title(row["key"], row["round"]), problem)
    return None


def _copy_rows(other: Database, connection_to: sa.Connection, table: sa.Table) -> int:
    kind, name = NIGHTLY_RECORDS[table.name]
    return sum(
        add_missing(
            connection_to,
            table,
            [dict(row._mapping) for row in batch if read_record(other.label, kind, name, row.body)],
        )
        for batch in other.batches(table, ROWS_AT_ONCE)
    )


def _rows(database: Database, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row._mapping) for row in typed_rows(connection, query)]
