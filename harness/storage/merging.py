"""``merge``: what another store holds and this one does not, brought into this one; whole, or not at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from rich.console import Console

from bench.records import Trial
from harness.errors import UsageError
from harness.storage.database import Database
from harness.storage.database_words import ELSEWHERE
from harness.storage.opening import masked, open_store, path_of
from harness.storage.store import SweepInfo, keep_measures, keep_night
from harness.storage.tables import KEPT_BESIDE_TRIALS, add_missing, environments_table, sweeps_table, trials_table

AGAIN = f"then repeat the merge, or {ELSEWHERE}"


@dataclass(frozen=True)
class Merged:
    """What was brought in and was not there before."""

    sweeps: tuple[str, ...]
    completed: tuple[str, ...]
    """Sweeps that were there and have grown since: by trials, or by their end."""
    trials: int
    beside: dict[str, int]
    """How many verdicts, acceptances, pairs and ingested runs, by table."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def print(self, console: Console) -> None:
        counts = {
            "sweeps": len(self.sweeps),
            "sweeps completed": len(self.completed),
            "trials": self.trials,
            **{name.replace("_", " "): count for name, count in self.beside.items()},
        }
        said = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
        console.print(f"brought in: {said or 'nothing, all of it is here'}", highlight=False, soft_wrap=True)


class _Brought(NamedTuple):
    sweep: str
    new: bool
    ended: bool
    trials: int


def merge(other_place: str, store_place: str) -> Merged:
    """Bring the other store's sweeps, trials and what checks keep beside them into this one, in one transaction.

    Where both hold a trial, a verdict or an acceptance of the same key, this store's stands. Raises
    :class:`UsageError` where both are one, and :class:`harness.errors.StoreError`.
    """
    if _same(other_place, store_place):
        raise UsageError(f"merge: {masked(other_place)} is the store itself; name two")
    other = open_store(other_place, create=False)
    store = open_store(store_place, create=True)
    try:
        return _bring(other.database, store.database)
    finally:
        other.close()
        store.close()


def _same(one: str, two: str) -> bool:
    paths = path_of(one), path_of(two)
    return one == two or (None not in paths and len({path.resolve() for path in paths if path}) == 1)


def _bring(other: Database, store: Database) -> Merged:
    """Each read is one of its own, so that what fails says which of the two stores it was."""
    sweeps = _rows(other, sa.select(sweeps_table).order_by(sweeps_table.c.started_at, sweeps_table.c.id))
    environments = _rows(other, sa.select(environments_table))
    with other.reading() as connection:
        present = sa.inspect(connection).get_table_names()
    with store.writing(AGAIN) as into:
        add_missing(into, environments_table, environments)
        brought = [_bring_sweep(other, into, sweep) for sweep in sweeps]
        beside = {
            table.name: add_missing(into, table, _rows(other, sa.select(table)))
            for table in KEPT_BESIDE_TRIALS
            if table.name in present
        }
    return Merged(
        sweeps=tuple(one.sweep for one in brought if one.new),
        completed=tuple(one.sweep for one in brought if not one.new and (one.ended or one.trials)),
        trials=sum(one.trials for one in brought),
        beside=beside,
    )


def _bring_sweep(other: Database, into: sa.Connection, sweep: dict[str, Any]) -> _Brought:
    """One that goes on meanwhile is taken as it stands: whether it has ended was read before its trials are."""
    with other.readable():
        info = SweepInfo.model_validate_json(sweep["body"])
    new = bool(add_missing(into, sweeps_table, [sweep]))
    keep_night(into, info)
    still_open = sa.and_(sweeps_table.c.id == info.id, sweeps_table.c.finished_at.is_(None))
    end = sweeps_table.update().where(still_open).values(finished_at=sweep["finished_at"])
    ended = not new and sweep["finished_at"] is not None and bool(into.execute(end).rowcount)
    return _Brought(info.id, new, ended, _bring_trials(other, into, info.id))


def _bring_trials(other: Database, into: sa.Connection, sweep: str) -> int:
    """Each is read before it is brought, so that none is damaged, and measured anew, whatever the other's format."""
    table = trials_table
    keys = sa.select(table.c.key, table.c.round).where(table.c.sweep == sweep)
    here = {tuple(row) for row in into.execute(keys)}
    if all((row["key"], row["round"]) in here for row in _rows(other, keys)):
        return 0
    rows = _rows(other, sa.select(table).where(table.c.sweep == sweep))
    brought = 0
    for row in rows:
        if (row["key"], row["round"]) not in here:
            with other.readable():
                trial = Trial.model_validate_json(row["body"])
            if add_missing(into, table, [row]):
                keep_measures(into, sweep, trial)
                brought += 1
    return brought


def _rows(database: Database, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]
