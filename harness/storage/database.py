"""The database behind a store: transactions, and what goes wrong in them as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import StoreError
from harness.storage.database_words import ELSEWHERE, why


class Database:
    """``place``: its name without a password, as errors and hints show it."""

    def __init__(self, engine: sa.Engine, place: str) -> None:
        self.engine, self.place = engine, place

    @contextmanager
    def writing(self, then: str) -> Iterator[sa.Connection]:
        """All of it or nothing. ``then``: what to do once a failure's cause is gone. Raises :class:`StoreError`."""
        try:
            with self.readable(), transaction(self.engine) as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(f"store {self.place}: cannot be written {why(problem)}, {then}") from problem

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Raises :class:`StoreError`."""
        try:
            with self.readable(), self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(f"store {self.place}: cannot be read {why(problem)}, or {ELSEWHERE}") from problem

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Around what reads records. Raises :class:`StoreError` for one that is damaged."""
        try:
            yield
        except ValidationError as problem:
            first = problem.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "all of it"
            said = f"holds a record that can't be read ({where}: {first['msg']}); it is damaged or of another version"
            raise StoreError(f"store {self.place}: {said}: restore a copy of it, or {ELSEWHERE}") from None


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All of it or nothing. SQLite is told at once that it will be written: it then waits for others up front."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
