"""The results store: raw trials as they were measured. Statistics are functions of them and are not kept here.

A SQLite file by default, any SQLAlchemy URL otherwise. A trial is committed when it ends, before the next starts.

Format history
    1  first format
"""

from __future__ import annotations

import gc
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bench.records import Trial, Value
from harness.database_words import ELSEWHERE, why
from harness.environment import Environment
from harness.errors import StoreError, nearest
from harness.plan import Plan
from harness.suite import Suite

FORMAT = 1
DEFAULT_STORE = ".runs/results.sqlite"

metadata = sa.MetaData()
about_table = sa.Table(
    "scaling_harness_about",
    metadata,
    sa.Column("only", sa.Integer, primary_key=True),  # one row, number 1, whoever writes it first
    sa.Column("format", sa.Integer, nullable=False),
)
environments_table = sa.Table(
    "environments", metadata, sa.Column("id", sa.String, primary_key=True), sa.Column("body", sa.Text, nullable=False)
)
sweeps_table = sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("started_at", sa.String, nullable=False),
    sa.Column("finished_at", sa.String),
    sa.Column("environment", sa.String, sa.ForeignKey("environments.id"), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
trials_table = sa.Table(
    "trials",
    metadata,
    sa.Column("sweep", sa.String, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


class SweepInfo(Value):
    """What was asked for, where, and when."""

    id: str
    started_at: str
    finished_at: str | None = None
    command: str
    suite: Suite
    plan: Plan
    environment: Environment


class Store:
    """An open results store."""

    def __init__(self, engine: sa.Engine, place: str) -> None:
        self._engine, self._place = engine, place

    def begin_sweep(self, info: SweepInfo) -> None:
        with self._writing(f"or {ELSEWHERE}") as connection:
            # Another sweep may be writing the same environment at this moment.
            with suppress(IntegrityError), connection.begin_nested():
                body = info.environment.model_dump_json()
                connection.execute(environments_table.insert().values(id=info.environment.id, body=body))
            connection.execute(
                sweeps_table.insert().values(
                    id=info.id,
                    started_at=info.started_at,
                    environment=info.environment.id,
                    body=info.model_dump_json(exclude={"finished_at"}),
                )
            )

    def add_trial(self, sweep: str, trial: Trial) -> None:
        with self._writing(self._resume()) as connection:
            connection.execute(
                trials_table.insert().values(
                    sweep=sweep,
                    key=trial.case.key,
                    round=trial.round,
                    outcome=trial.outcome,
                    body=trial.model_dump_json(),
                )
            )

    def finish_sweep(self, sweep: str, finished_at: str) -> None:
        with self._writing(self._resume()) as connection:
            connection.execute(sweeps_table.update().where(sweeps_table.c.id == sweep).values(finished_at=finished_at))

    def sweep_ids(self) -> list[str]:
        """All sweeps, the oldest first."""
        with self._reading() as connection:
            return list(
                connection.execute(
                    sa.select(sweeps_table.c.id).order_by(sweeps_table.c.started_at, sweeps_table.c.id)
                ).scalars()
            )

    def sweep(self, wanted: str) -> SweepInfo:
        """One sweep by its id, or ``latest``. Raises :class:`StoreError`."""
        known = self.sweep_ids()
        if not known:
            raise StoreError(f"store {self._place} holds no sweep yet; run `python -m harness sweep` first")
        found = known[-1] if wanted == "latest" else wanted
        if found not in known:
            raise StoreError(f"store {self._place} has no sweep '{wanted}'{nearest(wanted, known)}")
        with self._reading() as connection:
            row = connection.execute(sa.select(sweeps_table).where(sweeps_table.c.id == found)).one()
            info = SweepInfo.model_validate_json(row.body)
        return info.model_copy(update={"finished_at": row.finished_at})

    def trials(self, sweep: str) -> list[Trial]:
        with self._reading() as connection:
            query = (
                sa.select(trials_table.c.body)
                .where(trials_table.c.sweep == sweep)
                .order_by(trials_table.c.key, trials_table.c.round)
            )
            bodies = connection.execute(query).scalars()
            with _no_search_for_cycles():
                return [Trial.model_validate_json(body) for body in bodies]

    def done(self, sweep: str) -> set[tuple[str, int]]:
        """Case key and round of the trials that have ended, however they ended.

        They are read whole: one that is damaged is found before more are run, not in the report after them.
        """
        return {(trial.case.key, trial.round) for trial in self.trials(sweep)}

    def unfinished(self) -> str | None:
        """The sweep that began last and has not ended."""
        with self._reading() as connection:
            query = sa.select(sweeps_table.c.id).where(sweeps_table.c.finished_at.is_(None))
            return (
                connection.execute(query.order_by(sweeps_table.c.started_at.desc(), sweeps_table.c.id.desc()))
                .scalars()
                .first()
            )

    def close(self) -> None:
        self._engine.dispose()

    def _resume(self) -> str:
        where = "" if self._place == DEFAULT_STORE else f" --store {shlex.quote(self._place)}"
        return f"then `python -m harness sweep --resume{where}`"

    @contextmanager
    def _writing(self, then: str) -> Iterator[sa.Connection]:
        """``then``: what to do once the cause of a failure is gone."""
        try:
            with transaction(self._engine) as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(f"store {self._place}: cannot be written {why(problem)}, {then}") from problem

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(f"store {self._place}: cannot be read {why(problem)}, or {ELSEWHERE}") from problem
        except ValidationError as problem:
            first = problem.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "all of it"
            said = f"holds a record that can't be read ({where}: {first['msg']}); it is damaged or of another version"
            raise StoreError(f"store {self._place}: {said}: restore a copy of it, or {ELSEWHERE}") from None


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Records hold no cycles, and to look for some while thousands are built takes as long as building them.

    Later searches leave them out too; they go when nothing refers to them, as anything does.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searching:
            gc.enable()


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All of it or nothing. SQLite is told at once that it will be written: it then waits for others up front."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
