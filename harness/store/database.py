"""What went wrong in a database and what helps, in words.

The database behind a store: transactions, and what goes wrong in them as one line.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import StoreError

MAX_MESSAGE_LENGTH = 160

# What helps, by SQLite's primary result code.
REMEDIES = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_BUSY: "let the other sweep or program that holds it end (?timeout=SECONDS in its URL waits longer)",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder writable",
    sqlite3.SQLITE_CONSTRAINT: "let the other process that runs this sweep end",
    sqlite3.SQLITE_CORRUPT: "restore a copy of it",
    sqlite3.SQLITE_NOTADB: "restore a copy of it",
    sqlite3.SQLITE_IOERR: "see to its disk",
}
# What helps with PostgreSQL, by its code or by its words: refused connections carry no code.
SERVER_REMEDIES = {
    "23505": "let the other process that runs this sweep end",
    "25006": "take a role that may write",
    "42501": "have the owner of its tables grant it",
    "53100": "free some space on the server",
    "password authentication failed": "correct user and password",
    '" does not exist': "have it made (`createdb`), or correct the URL",
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
    """The database's own words and what helps."""
    return f"({error_line(problem)}); {_remedy(problem)}"


def _remedy(problem: BaseException) -> str:
    code = sqlite_code(problem)
    if code in REMEDIES:
        return REMEDIES[code]
    cause = getattr(problem, "orig", None)
    message = f"{getattr(cause, 'sqlstate', None)} {cause}"
    return next((remedy for pattern, remedy in SERVER_REMEDIES.items() if pattern in message), "see to that")


def error_line(problem: BaseException) -> str:
    """The first line, on a line of ours: it may quote what a damaged file holds."""
    message = str(getattr(problem, "orig", None) or problem).partition("\n")[0].removeprefix("connection failed: ")
    return "".join(pattern if pattern.isprintable() else "?" for pattern in message[:MAX_MESSAGE_LENGTH])


class Database:
    """``place``: its name without a password, as errors and hints show it."""

    def __init__(self, engine: sa.Engine, label: str) -> None:
        self.engine, self.label = engine, label

    @contextmanager
    def writing(self, retry_hint: str) -> Iterator[sa.Connection]:
        """All of it or nothing. ``then``: what to do once a failure's cause is gone. Raises :class:`StoreError`."""
        try:
            with self.validated_records(), transaction(self.engine) as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(
                f"store {self.label}: cannot be written {describe_error(problem)}, {retry_hint}"
            ) from problem

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Raises :class:`StoreError`."""
        try:
            with self.validated_records(), self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(
                f"store {self.label}: cannot be read {describe_error(problem)}, or {OTHER_STORE_HINT}"
            ) from problem

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def validated_records(self) -> Iterator[None]:
        """Around what reads records. Raises :class:`StoreError` for one that is damaged."""
        try:
            yield
        except ValidationError as problem:
            first = problem.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "all of it"
            message = (
                f"holds a record that can't be read ({field}: {first['msg']}); it is damaged or of another version"
            )
            raise StoreError(f"store {self.label}: {message}: restore a copy of it, or {OTHER_STORE_HINT}") from None


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All of it or nothing. SQLite is told at once that it will be written: it then waits for others up front."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
