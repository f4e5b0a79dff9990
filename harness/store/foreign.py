"""Limits on what is read from a store that somebody else may have written.

Only ordinary tables of ours with columns of ours are read. A record that is too large is refused before it is loaded, a
query that takes too long is ended, and a row's values have the types of their columns.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGInspector

from bench.core.names import UnsafeName, check_name
from harness.errors import StoreError
from harness.store.left_out import log_left_out
from harness.store.tables import metadata

RECORD_COLUMN = "body"
"""The column of every table that holds a record."""
MAX_RECORD_BYTES = 32 * 2**20
"""The largest value that is read or written, in bytes: some 1.5 million step times."""
MAX_QUERY_OPERATIONS = 100_000_000
"""Instructions of SQLite's virtual machine for a query. A query of a million measures takes some 30 million."""
OPERATIONS_PER_CALL = 1_000_000
QUERY_TIMEOUT_MS = 60_000
"""For a query of a PostgreSQL server."""


log = logging.getLogger("scaling_harness")


class UnexpectedValueError(ValueError):
    """A row has a value of another type than its column."""


def limit_connections(engine: sa.Engine, max_operations: int = MAX_QUERY_OPERATIONS) -> None:
    """Set the limits on each new connection of an engine. ``max_operations``: as :data:`MAX_QUERY_OPERATIONS`."""
    limit = {"sqlite": _limit_sqlite, "postgresql": _limit_postgresql}[engine.dialect.name]
    sa.event.listen(engine, "connect", lambda connection, _: limit(connection))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "before_cursor_execute", partial(_restart_count, max_operations))


def _limit_sqlite(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_RECORD_BYTES)


def _limit_postgresql(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {QUERY_TIMEOUT_MS}")
    connection.commit()


def _restart_count(max_operations: int, connection: sa.Connection, *_: object) -> None:
    """Count each statement for itself."""
    driver_connection = connection.connection.driver_connection
    if isinstance(driver_connection, sqlite3.Connection):
        driver_connection.set_progress_handler(_operation_counter(max_operations), OPERATIONS_PER_CALL)


def _operation_counter(max_operations: int) -> Callable[[], bool]:
    """A progress handler, which ends a query by returning ``True``."""
    calls = 0

    def exceeded() -> bool:
        nonlocal calls
        calls += 1
        return calls * OPERATIONS_PER_CALL > max_operations

    return exceeded


def check_tables(engine: sa.Engine, label: str, *, writing: bool) -> None:
    """Check that those of our tables that a store has are ordinary ones with our columns.

    Args:
        engine: The store's database.
        label: The store's name, for messages.
        writing: Whether the store is to be written: then tables of SQLite may have no triggers.

    Raises:
        StoreError: Naming the table.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            fault = _sqlite_fault(connection, writing=writing)
        else:
            fault = _server_fault(connection)
    if fault:
        raise StoreError(f"store {label}: {fault}, which no version of the harness writes; name another with --store")


def _sqlite_fault(connection: sa.Connection, *, writing: bool) -> str | None:
    schema = connection.exec_driver_sql("SELECT lower(name), lower(tbl_name), type, rootpage FROM sqlite_master").all()
    for name, table, kind, root_page in schema:
        if name in metadata.tables and not (kind == "table" and root_page):
            return f"'{name}' is {'a virtual table' if kind == 'table' else f'a {kind}'}"
        if kind == "trigger" and table in metadata.tables and writing:
            return f"'{table}' has a trigger"
    present = {name for name, _, kind, _ in schema if kind == "table"}
    for name, table in metadata.tables.items():
        if name in present:
            columns = connection.exec_driver_sql(f'PRAGMA table_xinfo("{name}")').mappings().all()
            stored = {column["name"] for column in columns if not column["hidden"]}
            if missing := _first_missing(table, stored):
                return f"'{name}' has no stored column '{missing}'"
    return None


def _server_fault(connection: sa.Connection) -> str | None:
    inspector = cast(PGInspector, sa.inspect(connection))
    names = list(metadata.tables)
    other_kinds = {*inspector.get_view_names(), *inspector.get_materialized_view_names()}
    other_kinds |= set(inspector.get_foreign_table_names())
    if foreign := next((name for name in names if name in other_kinds), None):
        return f"'{foreign}' is no ordinary table"
    for (_, name), columns in inspector.get_multi_columns(filter_names=names).items():
        stored = {column["name"] for column in columns if not column.get("computed")}
        if missing := _first_missing(metadata.tables[name], stored):
            return f"'{name}' has no stored column '{missing}'"
    return None


def _first_missing(table: sa.Table, stored: set[str]) -> str | None:
    return next((column.name for column in table.columns if column.name not in stored), None)


def named_sweeps(sweeps: Iterable[str], label: str) -> list[str]:
    """The ids that are names. Others are left out, and logged once: they would become folders and pages.

    Args:
        sweeps: Ids from a store.
        label: The store's name, for messages.
    """
    named = []
    for sweep in sweeps:
        try:
            named.append(check_name(sweep))
        except UnsafeName as problem:
            log_left_out(label, "a sweep", f"its id {problem}")
    return named


def typed_rows(connection: sa.Connection, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
    """The rows of a query. SQLite stores values of any type in any column.

    Raises:
        UnexpectedValueError: For a value that is not of its column's type, except for that of a record, whose reader
            leaves it out alone (:func:`harness.store.left_out.record_json`).
    """
    rows = connection.execute(query).all()
    _check_types(rows, query)
    return rows


def _check_types(rows: Sequence[sa.Row[Any]], query: sa.Select[Any]) -> None:
    for place, column in enumerate(query.selected_columns):
        if column.name == RECORD_COLUMN:
            continue
        kind = column.type.python_type
        optional = getattr(column, "nullable", False)
        for row in rows:
            if not isinstance(row[place], kind) and not (row[place] is None and optional):
                raise UnexpectedValueError(f"a {type(row[place]).__name__} in the column {column}")
