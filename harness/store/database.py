"""The database of a store: transactions, and database errors as one line with a remedy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from bench.core.text import one_line
from bench.host.secrets import mask_secrets
from harness.errors import StoreError
from harness.store.foreign import MAX_RECORD_BYTES, UnexpectedValueError, typed_rows
from harness.store.patience import is_transient, patience_of, wait_for_locks

MAX_MESSAGE_LENGTH = 160
SERVER_PAUSE_S = 1.0
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# Remedies by SQLite's primary result code.
REMEDIES = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_BUSY: "wait for the sweep or program that has locked it (?timeout=SECONDS in its URL waits longer)",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder writable",
    sqlite3.SQLITE_CONSTRAINT: "wait for the other process that runs this sweep",
    sqlite3.SQLITE_CORRUPT: "restore a copy of it",
    sqlite3.SQLITE_NOTADB: "restore a copy of it",
    # SQLite has one code for a spent quota, a file larger than allowed and a broken disk.
    sqlite3.SQLITE_IOERR: "check its disk, and your quota on it (`quota -s`)",
    sqlite3.SQLITE_TOOBIG: f"a record has at most {MAX_RECORD_BYTES // 2**20} MiB: measure fewer steps",
    sqlite3.SQLITE_INTERRUPT: "a query reads a few million rows at most: merge a part of its sweeps into another store",
}
# Remedies by PostgreSQL's code or message: refused connections have no code.
SERVER_REMEDIES = {
    "23505": "wait for the other process that runs this sweep",
    "25006": "use a role that may write",
    "42501": "ask the owner of its tables for the privilege",
    "53100": "free some space on the server",
    "password authentication failed": "correct user and password",
    '" does not exist': "create it (`createdb`), or correct the URL",
    "refused": "start the server, or correct host and port",
    "resolve host": "correct the host",
    "timeout": "start the server, or correct host and port",
    "closed the connection": "start the server, or correct host and port",
    "terminating connection": "start the server",
}
FILE_FAULTS = {sqlite3.SQLITE_CORRUPT: "is damaged", sqlite3.SQLITE_NOTADB: "not a results store"}
OTHER_STORE_HINT = "name another with --store"


def sqlite_code(problem: BaseException) -> int:
    """SQLite's primary result code; 0 where another database failed."""
    cause = getattr(problem, "orig", None)
    if "Could not decode to UTF-8" in str(cause):
        return sqlite3.SQLITE_CORRUPT  # Python's own check, which carries no code
    code: int = getattr(cause, "sqlite_errorcode", 0)
    return code & 0xFF


def describe_error(problem: BaseException) -> str:
    """The database's message and the remedy."""
    return f"({error_line(problem)}); {_remedy(problem)}"


def _remedy(problem: BaseException) -> str:
    code = sqlite_code(problem)
    if code in REMEDIES:
        return REMEDIES[code]
    cause = getattr(problem, "orig", None)
    message = f"{getattr(cause, 'sqlstate', None)} {cause}"
    return next((remedy for pattern, remedy in SERVER_REMEDIES.items() if pattern in message), "correct that")


def error_line(problem: BaseException) -> str:
    """The first line of the message. It may quote a damaged file."""
    message = str(getattr(problem, "orig", None) or problem).partition("\n")[0].removeprefix("connection failed: ")
    return one_line(mask_secrets(message), MAX_MESSAGE_LENGTH)


class Database:
    """A database. ``label``: its name without a password, for messages."""

    def __init__(self, engine: sa.Engine, label: str) -> None:
        self.engine, self.label = engine, label
        self.patience = patience_of(engine.url)
        self._tables: set[str] = set()  # that were seen: another process may add some
        if engine.dialect.name == "sqlite":
            wait_for_locks(engine, self.patience, label)

    def retry(self, action: Callable[[bool], ResultT]) -> ResultT:
        """The result of an action, which is repeated while a server restarts, or somebody holds a lock on it.

        Args:
            action: Takes whether an attempt before this one failed: the server may have done its work nevertheless.

        Raises:
            StoreError: From the action, if it fails otherwise, or for too long.
        """
        failed = False
        for left_s in self.patience.attempts(f"store {self.label}", "its server does not answer", SERVER_PAUSE_S):
            try:
                return action(failed)
            except StoreError as problem:
                if not left_s or self.engine.dialect.name == "sqlite" or not is_transient(problem.__cause__ or problem):
                    raise
                failed = True
        raise AssertionError("the last attempt returns or raises")

    def batches(
        self, table: sa.Table, rows: int, where: sa.ColumnElement[bool] = sa.true()
    ) -> Iterator[Sequence[sa.Row[Any]]]:
        """The rows of a table in the order of its key, ``rows`` at a time, each batch in a read of its own.

        With SQLite a read that lasts keeps others from writing; rows are handled between the reads here. Rows that
        others add meanwhile may be among them or not.

        Raises:
            StoreError: If it can't be read.
            UnexpectedValueError: For a value that is not of its column's type.
        """
        key = tuple(table.primary_key)
        with self.reading() as connection:
            keys = typed_rows(connection, sa.select(*key).where(where).order_by(*key))
        for begin in range(0, len(keys), rows):
            chunk = keys[begin : begin + rows]
            first, last = (sa.tuple_(*map(sa.literal, chunk[place])) for place in (0, -1))
            # SQLite would look up a condition on the first columns of the key in its index, in place of the range, and
            # go through all rows that meet it for each batch. In a CASE it can't.
            also = sa.case((where, sa.true()), else_=sa.false())
            inside = sa.and_(sa.tuple_(*key) >= first, sa.tuple_(*key) <= last, also)
            with self.reading() as connection:
                batch = typed_rows(connection, sa.select(table).where(inside).order_by(*key))
            yield batch

    @contextmanager
    def writing(self, retry_hint: str) -> Iterator[sa.Connection]:
        """A transaction for writing. Raises :class:`StoreError`.

        ``retry_hint``: what to do after the cause of a failure is removed.
        """
        try:
            with self.validated_records(), transaction(self.engine) as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(
                f"store {self.label}: cannot be written {describe_error(problem)}, {retry_hint}"
            ) from problem

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for reading. Raises :class:`StoreError`."""
        try:
            with self.validated_records(), self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(
                f"store {self.label}: cannot be read {describe_error(problem)}, or {OTHER_STORE_HINT}"
            ) from problem

    def has_table(self, table: sa.Table) -> bool:
        """Whether the store has a table, which those of earlier formats may not. Raises :class:`StoreError`."""
        if table.name not in self._tables:
            with self.reading() as connection:
                self._tables.update(sa.inspect(connection).get_table_names())
        return table.name in self._tables

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def validated_records(self) -> Iterator[None]:
        """Around code that parses records. Raises :class:`StoreError` for a damaged one."""
        try:
            yield
        except ValidationError as problem:
            first = problem.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "all of it"
            message = f"has a record that cannot be read ({field}: {first['msg']}); it is damaged or of another version"
            raise StoreError(f"store {self.label}: {message}: restore a copy of it, or {OTHER_STORE_HINT}") from None
        except (UnexpectedValueError, OverflowError) as problem:
            raise StoreError(
                f"store {self.label}: holds {problem}; it is damaged or not written by the harness: restore a copy of "
                f"it, or {OTHER_STORE_HINT}"
            ) from None


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction. With SQLite it takes the write lock at once, so that waiting for others that write happens here;
    those that read are waited for at its end."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        if engine.dialect.name == "sqlite":
            # Not by SQLAlchemy, whose commit is not repeated where the database is locked.
            connection.exec_driver_sql("COMMIT")


def chunks(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    """The items, ``size`` at a time."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))
