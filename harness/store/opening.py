"""Opening a results store: checks what it is and whether it can be written, and upgrades earlier formats."""

from __future__ import annotations

import os
import re
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
from harness.store.foreign import check_tables, limit_connections, typed_rows
from harness.store.store import Store, SweepInfo, record_measures, record_night
from harness.store.tables import FORMAT, about_table, add_missing, metadata, sweeps_table, trials_table


def upgrade_store(database: Database) -> None:
    """Create the tables that later formats added, and fill them from the stored trials, in one transaction.

    Raises :class:`harness.errors.StoreError` where the store cannot be written or has a damaged trial.
    """
    retry_hint = f"then repeat the command: it brings the store to format {FORMAT} first; or {OTHER_STORE_HINT}"
    with database.writing(retry_hint) as connection:
        # A second process waits here for the first, and then has nothing to do.
        update = about_table.update().where(about_table.c.format < FORMAT).values(format=FORMAT)
        if connection.execute(update).rowcount:
            metadata.create_all(connection)
            _fill_measures(connection)


def _fill_measures(connection: sa.Connection) -> None:
    """One sweep at a time: trials hold every step."""
    for row in typed_rows(connection, sa.select(sweeps_table.c.id, sweeps_table.c.body)):
        record_night(connection, SweepInfo.model_validate_json(row.body))
        trials = sa.select(trials_table.c.body).where(trials_table.c.sweep == row.id)
        for trial in connection.execute(trials).scalars():
            record_measures(connection, row.id, Trial.model_validate_json(trial))


MAX_NAME_LENGTH = 255
"""Of a store in messages, in characters."""
# Timeouts for connecting and for locks, in seconds, by the name of each database's option.
CONNECT_TIMEOUTS = {"sqlite": {"timeout": 30}, "postgresql": {"connect_timeout": 10}}


def check_store(location: str) -> None:
    """Raise :class:`StoreError` where a sweep could not write to the store. Does not create it."""
    path = store_path(location)
    if path is None or _exists(path, location):
        _check_regular_file(location, path)
        with _connection_errors(location):
            engine = _engine(location)
            try:
                check_tables(engine, mask_password(location), writing=True)
                if _format_of(engine, location) is not None:
                    _check_integrity(engine, location)
                    _check_writable(engine)
            finally:
                engine.dispose()
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise StoreError(f"store {location}: cannot be created in {folder}; {OTHER_STORE_HINT}")


def open_store(location: str, *, create: bool, upgrade: bool = False) -> Store:
    """Open a store.

    Args:
        location: A file name or an SQLAlchemy URL.
        create: Open for writing: create a missing store, upgrade an older one.
        upgrade: Upgrade an older store, as checks need it. Otherwise it is read as it is.

    Raises:
        StoreError: Where it cannot be opened, holds something else, or has a newer format.
    """
    path = store_path(location)
    if path is not None and not _exists(path, location) and not create:
        raise StoreError(f"store {location}: no such file; run `python -m harness sweep` first, or name another")
    _check_regular_file(location, path)
    with _connection_errors(location):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        database = Database(_engine(location), mask_password(location))
        try:
            _prepare(database, location, create=create, upgrade=upgrade)
        except BaseException:
            database.close()
            raise
    return Store(database)


def _check_regular_file(location: str, path: Path | None) -> None:
    """SQLite would wait for ever for a pipe."""
    if path is not None and path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise StoreError(f"store {mask_password(location)}: is {kind}; {OTHER_STORE_HINT}")


def _prepare(database: Database, location: str, *, create: bool, upgrade: bool) -> None:
    check_tables(database.engine, database.label, writing=create or upgrade)
    store_format = _format_of(database.engine, location)
    if store_format is None and create:
        _create_tables(database.engine, location)
    elif store_format is None:
        raise StoreError(f"store {mask_password(location)}: is empty; run `python -m harness sweep` first")
    elif store_format < FORMAT and (create or upgrade):
        upgrade_store(database)
    elif create:
        _check_writable(database.engine)


@contextmanager
def _connection_errors(location: str) -> Iterator[None]:
    """Turn errors while a store is opened into one line."""
    message = f"store {mask_password(location)}"
    try:
        yield
    except OSError as problem:
        raise StoreError(f"{message}: cannot be created ({problem.strerror}); {OTHER_STORE_HINT}") from None
    except DBAPIError as problem:
        fault = FILE_FAULTS.get(sqlite_code(problem), "cannot be opened")
        raise StoreError(f"{message}: {fault} {describe_error(problem)}, or {OTHER_STORE_HINT}") from None
    except (SQLAlchemyError, ImportError) as problem:
        remedy = f"correct the URL, or install its driver (PostgreSQL's: `{install_command('postgresql')}`)"
        raise StoreError(f"{message}: {error_line(problem)}; {remedy}") from None


def _engine(location: str) -> sa.Engine:
    url = _parse_url(location)
    path = store_path(location)
    if path is not None:
        # SQLAlchemy removes ".." from the text of a path: behind a symbolic link that is another folder.
        url = url.set(database=os.path.realpath(path))
    kind = url.get_backend_name()
    if kind not in CONNECT_TIMEOUTS:
        raise StoreError(f"store {mask_password(location)}: is neither SQLite nor PostgreSQL; correct the URL")
    connect_args = {name: seconds for name, seconds in CONNECT_TIMEOUTS[kind].items() if name not in url.query}
    try:
        # A server may have been restarted between two trials.
        engine = sa.create_engine(url, connect_args=connect_args, pool_pre_ping=kind == "postgresql")
    except (ValueError, TypeError) as problem:  # SQLAlchemy makes numbers of some of a URL's options
        raise StoreError(f"store {mask_password(location)}: {error_line(problem)}; correct the URL") from None
    limit_connections(engine)
    return engine


def _format_of(engine: sa.Engine, location: str) -> int | None:
    """The format of a store; ``None`` where it is empty. Raises :class:`StoreError` for other contents."""
    tables = sa.inspect(engine).get_table_names()
    if about_table.name not in tables:
        if tables:
            raise StoreError(
                f"store {mask_password(location)}: holds other tables ({', '.join(tables[:3])}), not results; "
                f"{OTHER_STORE_HINT}"
            )
        return None
    with engine.connect() as connection:
        query = sa.select(about_table.c.format).where(about_table.c.only == 1)
        store_format = connection.execute(query).scalars().first()
    if not isinstance(store_format, int | None):
        raise StoreError(
            f"store {mask_password(location)}: its format is '{str(store_format)[:20]}', no number; {OTHER_STORE_HINT}"
        )
    if store_format is not None and store_format > FORMAT:
        raise StoreError(
            f"store {mask_password(location)}: written by a newer version (format {store_format}, this one reads up to "
            f"{FORMAT}); update the harness, or {OTHER_STORE_HINT}"
        )
    return store_format


def _create_tables(engine: sa.Engine, location: str) -> None:
    """Safe where two sweeps create the same store at the same time."""
    try:
        with transaction(engine) as connection:
            metadata.create_all(connection)
            add_missing(connection, about_table, [{"only": 1, "format": FORMAT}])
    except DBAPIError:
        if _format_of(engine, location) is None:
            raise


def _check_integrity(engine: sa.Engine, location: str) -> None:
    """Check all of a SQLite file: SQLite itself notices damage only where it reads."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        result = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one().splitlines()[-1]
        unreadable = (
            sa.select(sa.func.count()).select_from(trials_table).where(sa.not_(sa.func.json_valid(trials_table.c.body)))
        )
        count = connection.execute(unreadable).scalar_one() if result == "ok" else 0
    if result != "ok" or count:
        message = f"{count} of its trials can't be read" if count else result
        remedy = REMEDIES[sqlite3.SQLITE_CORRUPT]
        raise StoreError(f"store {mask_password(location)}: is damaged ({message}); {remedy}, or {OTHER_STORE_HINT}")


def _check_writable(engine: sa.Engine) -> None:
    """Write to the store without changing it."""
    with transaction(engine) as connection:
        connection.execute(about_table.update().values(format=about_table.c.format))


def mask_password(location: str) -> str:
    """The location without its password, also where the URL is malformed."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^:/?]*):.*@", r"\1:***@", location))


def _parse_url(location: str) -> sa.URL:
    if "://" not in location:
        # In a file's name no character has a meaning: neither % nor ? nor #.
        return sa.URL.create("sqlite", database=location)
    try:
        url = sa.make_url(location)
    except (SQLAlchemyError, ValueError):  # what it says may quote the password
        raise StoreError(f"store {mask_password(location)}: is no valid URL; correct it") from None
    if "@" in (url.host or ""):
        raise StoreError(f"store {mask_password(location)}: names no host; write an @ in a password as %40")
    return url


def store_path(location: str) -> Path | None:
    """The file of a SQLite store; ``None`` for a server, a database in memory or SQLite's own ``file:`` notation."""
    if "://" not in location:
        return Path(location)
    url = _parse_url(location)
    name = url.database or ""
    is_file = url.drivername.startswith("sqlite") and name and name != ":memory:" and not name.startswith("file:")
    return Path(name) if is_file else None


def _exists(path: Path, location: str) -> bool:
    """Whether the file is there. Raises :class:`StoreError` for a name that no file can have."""
    try:
        return path.exists()
    except OSError as problem:
        name = location if len(location) < MAX_NAME_LENGTH else f"{location[:MAX_NAME_LENGTH]}…"
        raise StoreError(f"store {mask_password(name)}: {problem.strerror}; {OTHER_STORE_HINT}") from None
