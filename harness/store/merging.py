"""``merge``: copy what another store holds and this one does not, in one transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from rich.console import Console

from bench.core.records import Trial
from harness.errors import UsageError
from harness.store.database import OTHER_STORE_HINT, Database
from harness.store.foreign import UnexpectedValueError, named_sweeps, typed_rows
from harness.store.location import is_same_store, store_label
from harness.store.opening import open_store
from harness.store.store import SweepInfo, record_measures, record_night
from harness.store.tables import NIGHTLY_TABLES, add_missing, environments_table, sweeps_table, trials_table
from reports.formats.console import print_line
from reports.formats.documents import versioned

ROWS_AT_ONCE = 10
"""A pair's row holds a trial with all of its steps."""
RETRY_HINT = f"then repeat the merge, or {OTHER_STORE_HINT}"


@dataclass(frozen=True)
class MergeResult:
    """What was copied, and was not there before."""

    sweeps: tuple[str, ...]
    completed: tuple[str, ...]
    """Sweeps that were there, and got trials or their end."""
    trials: int
    beside: dict[str, int]
    """Number of verdicts, acceptances, pairs and ingested runs by table."""

    def as_json(self) -> dict[str, Any]:
        return versioned("merge", asdict(self))

    def print(self, console: Console) -> None:
        counts = {
            "sweeps": len(self.sweeps),
            "sweeps completed": len(self.completed),
            "trials": self.trials,
            **{name.replace("_", " "): count for name, count in self.beside.items()},
        }
        summary = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
        print_line(console, f"merged: {summary or 'nothing, all of it is here'}")


class _MergedSweep(NamedTuple):
    sweep: str
    new: bool
    ended: bool
    trials: int


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
    environments = _rows(other, sa.select(environments_table))
    with other.reading() as connection:
        present = sa.inspect(connection).get_table_names()
    with store.writing(RETRY_HINT) as connection_to:
        add_missing(connection_to, environments_table, environments)
        named = set(named_sweeps((sweep["id"] for sweep in sweeps), other.label))
        merged = [_merge_sweep(other, connection_to, sweep) for sweep in sweeps if sweep["id"] in named]
        beside = {
            table.name: _copy_rows(other, connection_to, table) for table in NIGHTLY_TABLES if table.name in present
        }
    return MergeResult(
        sweeps=tuple(sweep.sweep for sweep in merged if sweep.new),
        completed=tuple(sweep.sweep for sweep in merged if not sweep.new and (sweep.ended or sweep.trials)),
        trials=sum(sweep.trials for sweep in merged),
        beside=beside,
    )


def _merge_sweep(other: Database, connection_to: sa.Connection, sweep: dict[str, Any]) -> _MergedSweep:
    """Copy a sweep, which may be running: whether it has ended was read before its trials."""
    with other.validated_records():
        info = SweepInfo.model_validate_json(sweep["body"])
        if info.id != sweep["id"]:
            raise UnexpectedValueError(f"another sweep than its id says ({sweep['id'][:80]})")
    new = bool(add_missing(connection_to, sweeps_table, [sweep]))
    record_night(connection_to, info)
    still_open = sa.and_(sweeps_table.c.id == info.id, sweeps_table.c.finished_at.is_(None))
    end = sweeps_table.update().where(still_open).values(finished_at=sweep["finished_at"])
    ended = not new and sweep["finished_at"] is not None and bool(connection_to.execute(end).rowcount)
    return _MergedSweep(info.id, new, ended, _merge_trials(other, connection_to, info.id))


def _merge_trials(other: Database, connection_to: sa.Connection, sweep: str) -> int:
    """Copy trials, one after the other. Each is parsed, so that a damaged one is found, and measured again, whatever
    the other's format."""
    table = trials_table
    keys = sa.select(table.c.key, table.c.round).where(table.c.sweep == sweep)
    present = {tuple(row) for row in connection_to.execute(keys)}
    merged = 0
    for key, number in (tuple(row.values()) for row in _rows(other, keys.order_by(table.c.key, table.c.round))):
        if (key, number) not in present:
            here = sa.and_(table.c.sweep == sweep, table.c.key == key, table.c.round == number)
            (row,) = _rows(other, sa.select(table).where(here))
            trial = _parse_trial(other, row)
            if add_missing(connection_to, table, [row]):
                record_measures(connection_to, sweep, trial)
                merged += 1
    return merged


def _parse_trial(other: Database, row: dict[str, Any]) -> Trial:
    with other.validated_records():
        trial = Trial.model_validate_json(row["body"])
        if (trial.case.key, trial.round, trial.outcome) != (row["key"], row["round"], row["outcome"]):
            raise UnexpectedValueError(f"another trial than its key says ({row['key'][:80]}, round {row['round']})")
    return trial


def _copy_rows(other: Database, connection_to: sa.Connection, table: sa.Table) -> int:
    return sum(
        add_missing(connection_to, table, [dict(row._mapping) for row in batch])
        for batch in other.batches(table, ROWS_AT_ONCE)
    )


def _rows(database: Database, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row._mapping) for row in typed_rows(connection, query)]
