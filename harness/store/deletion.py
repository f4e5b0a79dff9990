"""What a sweep takes in a store, and its deletion: all of its rows in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from bench.core.frozen_model import FrozenModel
from harness.errors import StoreError
from harness.store.database import OTHER_STORE_HINT, Database, describe_error, error_line
from harness.store.foreign import QUERY_TIMEOUT_MS, typed_rows
from harness.store.ledger import Acceptance
from harness.store.left_out import read_record
from harness.store.patience import is_busy
from harness.store.tables import (
    acceptances_table,
    add_missing,
    case_summaries_table,
    cells_table,
    labels_table,
    measures_table,
    metadata,
    nights_table,
    pairs_table,
    sweep_summaries_table,
    sweeps_table,
    trials_table,
    verdicts_table,
)

ROWS_OF_A_SWEEP = (
    trials_table.c.sweep,
    measures_table.c.sweep,
    cells_table.c.sweep,
    verdicts_table.c.night,
    pairs_table.c.night,
    labels_table.c.sweep,
    case_summaries_table.c.sweep,
    sweep_summaries_table.c.sweep,
    nights_table.c.sweep,
    sweeps_table.c.id,
)
"""The column of each table that holds the id of a sweep; the sweep itself, which the others refer to, comes last."""
BYTES_OF_A_NUMBER = 8
LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's code."""
LOCK_TIMEOUT_MS = 10_000
"""How long a table of a server is waited for before it is rewritten."""
RETRY_HINT = f"then repeat the command, or {OTHER_STORE_HINT}"


class StoredRows(FrozenModel):
    """The rows of a sweep."""

    trials: int = 0
    verdicts: int = 0
    pairs: int = 0
    bytes: int = 0
    """Of all values in all of its rows; on a server as they are stored, compressed."""


def stored_rows(database: Database, sweep: str) -> StoredRows:
    """What a sweep takes in a store of any format. Raises :class:`StoreError`."""
    counts: dict[str, int] = {}
    total = 0
    with database.reading() as connection:
        present = set(sa.inspect(connection).get_table_names())
        for column in ROWS_OF_A_SWEEP:
            table = column.table
            if table.name not in present:
                continue
            size = sum((_size_of(connection, item) for item in table.columns), start=sa.literal(0))
            query = sa.select(sa.func.count(), sa.func.sum(size)).where(column == sweep)
            counts[table.name], size_of_rows = connection.execute(query).one()
            total += int(size_of_rows or 0)
    return StoredRows(
        trials=counts.get(trials_table.name, 0),
        verdicts=counts.get(verdicts_table.name, 0),
        pairs=counts.get(pairs_table.name, 0),
        bytes=total,
    )


def _size_of(connection: sa.Connection, column: sa.Column[object]) -> sa.ColumnElement[int]:
    """In bytes."""
    if not isinstance(column.type, sa.String):
        return sa.literal(BYTES_OF_A_NUMBER)
    if connection.dialect.name == "postgresql":
        return sa.func.coalesce(sa.func.pg_column_size(column), 0)
    return sa.func.coalesce(sa.func.length(sa.cast(column, sa.LargeBinary)), 0)


def begun_acceptances(database: Database) -> Mapping[str, int]:
    """The number of accepted changes that begin with a night, by night. Raises :class:`StoreError`."""
    if not database.has_table(acceptances_table):
        return {}
    query = sa.select(acceptances_table.c.since, sa.func.count().label("changes")).group_by(acceptances_table.c.since)
    with database.reading() as connection:
        return {row.since: row.changes for row in typed_rows(connection, query)}


def delete_rows(database: Database, sweep: str) -> bool:
    """Delete all rows of a sweep in one transaction, of a store of the present format.

    A change that was accepted from this sweep on begins with the next sweep of its suite; where there is none, the
    acceptance goes too. Ingested runs are no part of a sweep and stay.

    Returns:
        Whether the sweep was there.

    Raises:
        StoreError: The store can't be written. Nothing of it is deleted then.
    """
    with database.writing(RETRY_HINT) as connection:
        row = sa.select(sweeps_table.c.id).where(sweeps_table.c.id == sweep).with_for_update()
        present = connection.execute(row).first() is not None
        _move_acceptances(connection, database.label, sweep)
        for column in ROWS_OF_A_SWEEP:
            connection.execute(column.table.delete().where(column == sweep))
    return present


def _move_acceptances(connection: sa.Connection, label: str, sweep: str) -> None:
    table = acceptances_table
    rows = typed_rows(connection, sa.select(table).where(table.c.since == sweep))
    if not rows:
        return
    later = _next_night(connection, sweep)
    connection.execute(table.delete().where(table.c.since == sweep))
    for row in rows:
        acceptance = read_record(label, Acceptance, "an acceptance", row.body)
        if acceptance is not None and later is not None:
            moved = acceptance.model_copy(update={"since": later})
            body = moved.model_dump_json()
            add_missing(connection, table, [{"curve": row.curve, "since": later, "body": body}])


def _next_night(connection: sa.Connection, sweep: str) -> str | None:
    """The next sweep of the same suite."""
    columns = (sweeps_table.c.id, sweeps_table.c.started_at, nights_table.c.suite)
    joined = sa.select(*columns).join(nights_table, nights_table.c.sweep == sweeps_table.c.id)
    this = connection.execute(joined.where(sweeps_table.c.id == sweep)).first()
    if this is None:
        return None
    place = sa.tuple_(sweeps_table.c.started_at, sweeps_table.c.id)
    after = sa.and_(
        nights_table.c.suite == this.suite, place > sa.tuple_(sa.literal(this.started_at), sa.literal(this.id))
    )
    query = joined.where(after).order_by(sweeps_table.c.started_at, sweeps_table.c.id).limit(1)
    later = connection.execute(query).first()
    return None if later is None else str(later.id)


def return_space(database: Database) -> None:
    """Return the space of deleted rows to the disk. Others that use the store wait meanwhile.

    Raises:
        StoreError: It could not be returned; the store is as it was, and reuses the space itself.
    """
    try:
        if database.engine.dialect.name == "sqlite":
            _vacuum_file(database)
        else:
            _vacuum_server(database)
    except (sqlite3.Error, SQLAlchemyError) as problem:
        reason = describe_error(problem) if isinstance(problem, SQLAlchemyError) else f"({error_line(problem)})"
        raise StoreError(
            f"store {database.label}: the space of deleted rows stays in use, and will be used by new ones {reason}"
        ) from None


def _vacuum_file(database: Database) -> None:
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        # It takes as long as the file is large: the limit on queries is not for it.
        driver.set_progress_handler(None, 0)
        for left_s in database.patience.attempts(f"store {database.label}", "another program has locked it"):
            try:
                driver.execute("VACUUM")
                return
            except sqlite3.OperationalError as problem:
                if not left_s or not is_busy(problem):
                    raise


def _vacuum_server(database: Database) -> None:
    """Rewrite each table, which keeps others from it; of one that is in use for long, mark the space as free."""
    with (
        database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        _limits(connection, statement_timeout=0, lock_timeout=LOCK_TIMEOUT_MS),
    ):
        for name in metadata.tables:
            try:
                connection.exec_driver_sql(f'VACUUM (FULL) "{name}"')
            except SQLAlchemyError as problem:
                if getattr(getattr(problem, "orig", None), "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
                connection.exec_driver_sql(f'VACUUM "{name}"')


@contextmanager
def _limits(connection: sa.Connection, **timeouts_ms: int) -> Iterator[None]:
    before = {"statement_timeout": QUERY_TIMEOUT_MS, "lock_timeout": 0}
    for name, value in timeouts_ms.items():
        connection.exec_driver_sql(f"SET {name} = {value}")
    try:
        yield
    finally:
        for name in timeouts_ms:
            connection.exec_driver_sql(f"SET {name} = {before[name]}")
