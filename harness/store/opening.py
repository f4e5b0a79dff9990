"""Opening a results store: checks what it is and whether it can be written, and upgrades earlier formats."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bench.core.records import Trial
from bench.host.installation import install_command
from harness.errors import StoreError
from harness.store.database import (
    FILE_FAULTS,
    OTHER_STORE_HINT,
    REMEDIES,
    Database,
    describe_error,
    error_line,
    sqlite_code,
    transaction,
)
from harness.store.derived import record_measures, record_night
from harness.store.foreign import check_tables, limit_connections, typed_rows
from harness.store.left_out import read_record, trial_title
from harness.store.location import CREATING, EXISTING, StoreLocation, parse_location
from harness.store.store import Store, SweepInfo
from harness.store.tables import FORMAT, about_table, add_missing, create_tables, sweeps_table, trials_table

WITH_MEASURES = 2
"""The first format that keeps what checks need."""


def upgrade_store(database: Database) -> None:
    """Create the tables that later formats added, and fill them from the stored trials, in one transaction.

    Raises :class:`harness.errors.StoreError` where the store cannot be written or has a damaged trial.
    """
    retry_hint = f"then repeat the command: it brings the store to format {FORMAT} first; or {OTHER_STORE_HINT}"
    with database.writing(retry_hint) as connection:
        # A second process waits here for the first, and then has nothing to do.
        before = connection.execute(sa.select(about_table.c.format).where(about_table.c.only == 1)).scalar_one()
        update = about_table.update().where(about_table.c.format < FORMAT).values(format=FORMAT)
        if connection.execute(update).rowcount:
            create_tables(connection)
            if before < WITH_MEASURES:
                _fill_measures(connection, database.label)


def _fill_measures(connection: sa.Connection, label: str) -> None:
    """One sweep at a time: trials hold every step."""
    for row in typed_rows(connection, sa.select(sweeps_table.c.id, sweeps_table.c.body)):
        info = read_record(label, SweepInfo, f"sweep {row.id}", row.body)
        if info is None:
            continue
        record_night(connection, info.id, info.suite.name)
        trials = sa.select(trials_table.c.key, trials_table.c.round, trials_table.c.body)
        for key, number, body in connection.execute(trials.where(trials_table.c.sweep == row.id)):
            if trial := read_record(label, Trial, trial_title(key, number), body):
                record_measures(connection, row.id, trial)


MAX_NAME_LENGTH = 255
"""Of a store in messages, in characters."""
# Timeouts for connecting and for locks, in seconds, by the name of each database's option.
CONNECT_TIMEOUTS = {"sqlite": {"timeout": 30}, "postgresql": {"connect_timeout": 10}}


def check_store(location: str) -> None:
    """Raise :class:`StoreError` where a sweep could not write to the store. Does not create it.

    All of a SQLite file is read only where what wrote to it last may not have ended well: the newest sweep has no end,
    or a journal is left. Otherwise SQLite notices a missing end of the file here, and other damage where it is read.
    """
    parsed = parse_location(location)
    if parsed.path is None or _exists(parsed.path, parsed.label):
        _check_regular_file(parsed)
        journal_left = _has_journal(parsed.path)  # SQLite removes it when it opens the file
        with _connection_errors(parsed):
            engine = Database(_engine(parsed, EXISTING), parsed.label).engine
            try:
                check_tables(engine, parsed.label, writing=True)
                if _format_of(engine, parsed.label) is not None:
                    if parsed.path is not None and (journal_left or _newest_is_open(engine)):
                        _check_all_pages(engine, parsed.label)
                    _check_writable(engine)
            finally:
                engine.dispose()
        return
    folder = next(parent for parent in parsed.path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise StoreError(f"store {parsed.label}: cannot be created in {folder}; {OTHER_STORE_HINT}")


def open_store(location: str, *, create: bool, upgrade: bool = False) -> Store:
    """Open a store.

    Args:
        location: A file name or an SQLAlchemy URL.
        create: Open for writing: create a missing store, upgrade an older one.
        upgrade: Open an existing one for writing, and upgrade an older one, as checks need it. Otherwise it is read as
            it is, and nothing is written.

    Raises:
        StoreError: Where it cannot be opened, holds something else, or has a newer format.
    """
    parsed = parse_location(location)
    if parsed.path is not None and not _exists(parsed.path, parsed.label) and not create:
        raise StoreError(f"store {parsed.label}: no such file; run `python -m harness sweep` first, or name another")
    _check_regular_file(parsed)
    with _connection_errors(parsed):
        if parsed.path is not None and create:
            parsed.path.parent.mkdir(parents=True, exist_ok=True)
        mode = CREATING if create else EXISTING if upgrade else parsed.reading_mode
        database = Database(_engine(parsed, mode), parsed.label)
        try:
            _prepare(database, create=create, upgrade=upgrade)
        except BaseException:
            database.close()
            raise
    return Store(database, location)


def _check_regular_file(location: StoreLocation) -> None:
    """SQLite would wait for ever for a pipe."""
    path = location.path
    if path is not None and path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise StoreError(f"store {location.label}: is {kind}; {OTHER_STORE_HINT}")


def _prepare(database: Database, *, create: bool, upgrade: bool) -> None:
    check_tables(database.engine, database.label, writing=create or upgrade)
    store_format = _format_of(database.engine, database.label)
    if store_format is None and create:
        _create_tables(database.engine, database.label)
    elif store_format is None:
        raise StoreError(f"store {database.label}: is empty; run `python -m harness sweep` first")
    elif store_format < FORMAT and (create or upgrade):
        upgrade_store(database)
    elif create:
        _check_writable(database.engine)


@contextmanager
def _connection_errors(location: StoreLocation) -> Iterator[None]:
    """Turn errors while a store is opened into one line."""
    message = f"store {location.label}"
    try:
        yield
    except OSError as problem:
        raise StoreError(f"{message}: cannot be created ({problem.strerror}); {OTHER_STORE_HINT}") from None
    except DBAPIError as problem:
        fault = FILE_FAULTS.get(sqlite_code(problem), "cannot be opened")
        reason = location.redact(describe_error(problem))
        raise StoreError(f"{message}: {fault} {reason}, or {OTHER_STORE_HINT}") from None
    except (SQLAlchemyError, ImportError) as problem:
        remedy = f"correct the URL, or install its driver (PostgreSQL's: `{install_command('postgresql')}`)"
        raise StoreError(f"{message}: {location.redact(error_line(problem))}; {remedy}") from None


def _engine(location: StoreLocation, mode: str) -> sa.Engine:
    """``mode``: how a file is opened (:data:`harness.store.location.READ_ONLY`, …)."""
    url = location.engine_url(mode)
    kind = url.get_backend_name()
    connect_args = {name: seconds for name, seconds in CONNECT_TIMEOUTS[kind].items() if name not in url.query}
    try:
        # A server may have been restarted between two trials.
        engine = sa.create_engine(url, connect_args=connect_args, pool_pre_ping=kind == "postgresql")
    except (ValueError, TypeError) as problem:  # SQLAlchemy makes numbers of some of a URL's options
        raise StoreError(f"store {location.label}: {location.redact(error_line(problem))}; correct the URL") from None
    limit_connections(engine)
    return engine


def _format_of(engine: sa.Engine, label: str) -> int | None:
    """The format of a store; ``None`` where it is empty. Raises :class:`StoreError` for other contents."""
    tables = sa.inspect(engine).get_table_names()
    if about_table.name not in tables:
        if tables:
            raise StoreError(
                f"store {label}: holds other tables ({', '.join(tables[:3])}), not results; {OTHER_STORE_HINT}"
            )
        return None
    with engine.connect() as connection:
        query = sa.select(about_table.c.format).where(about_table.c.only == 1)
        store_format = connection.execute(query).scalars().first()
    if not isinstance(store_format, int | None):
        raise StoreError(f"store {label}: its format is '{str(store_format)[:20]}', no number; {OTHER_STORE_HINT}")
    if store_format is not None and store_format > FORMAT:
        raise StoreError(
            f"store {label}: written by a newer version (format {store_format}, this one reads up to "
            f"{FORMAT}); update the harness, or {OTHER_STORE_HINT}"
        )
    return store_format


def _create_tables(engine: sa.Engine, label: str) -> None:
    """Safe where two sweeps create the same store at the same time."""
    try:
        with transaction(engine) as connection:
            create_tables(connection)
            add_missing(connection, about_table, [{"only": 1, "format": FORMAT}])
    except DBAPIError:
        if _format_of(engine, label) is None:
            raise


def _has_journal(path: Path | None) -> bool:
    """Whether a transaction on a SQLite file has not ended: its process died, or is at work."""
    return path is not None and _exists(Path(f"{path}-journal"), str(path))


def _newest_is_open(engine: sa.Engine) -> bool:
    """Whether the sweep that began last has not ended: its process died, or is at work."""
    newest = sa.select(sweeps_table.c.finished_at).order_by(sweeps_table.c.started_at.desc(), sweeps_table.c.id.desc())
    with engine.connect() as connection:
        row = connection.execute(newest.limit(1)).first()
    return row is not None and row.finished_at is None


def _check_all_pages(engine: sa.Engine, label: str) -> None:
    """Check all of a SQLite file: SQLite itself notices damage only where it reads."""
    with engine.connect() as connection:
        result = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one().splitlines()[-1]
        unreadable = (
            sa.select(sa.func.count()).select_from(trials_table).where(sa.not_(sa.func.json_valid(trials_table.c.body)))
        )
        count = connection.execute(unreadable).scalar_one() if result == "ok" else 0
    if result != "ok" or count:
        message = f"{count} of its trials can't be read" if count else result
        remedy = REMEDIES[sqlite3.SQLITE_CORRUPT]
        raise StoreError(f"store {label}: is damaged ({message}); {remedy}, or {OTHER_STORE_HINT}")


def _check_writable(engine: sa.Engine) -> None:
    """Write to the store without changing it."""
    with transaction(engine) as connection:
        connection.execute(about_table.update().values(format=about_table.c.format))


def _exists(path: Path, label: str) -> bool:
    """Whether the file is there. Raises :class:`StoreError` for a name that no file can have."""
    try:
        return path.exists()
    except OSError as problem:
        name = label if len(label) < MAX_NAME_LENGTH else f"{label[:MAX_NAME_LENGTH]}…"
        raise StoreError(f"store {name}: {problem.strerror}; {OTHER_STORE_HINT}") from None
