"""The database behind a store: transactions, and what goes wrong in them as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import StoreError
from harness.storage.database_words import OTHER_STORE_HINT, describe_error


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
