"""The results store: raw trials as they were measured. Statistics are functions of them and are not kept here.

A SQLite file by default, any SQLAlchemy URL otherwise. A trial is committed when it ends, before the next starts.

Format history
    1  first format
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, SQLAlchemyError

from bench.records import Trial, Value
from harness.environment import Environment
from harness.errors import StoreError, nearest
from harness.plan import Plan
from harness.suite import Suite

FORMAT = 1
LOCK_PATIENCE_S = 30
DEFAULT_STORE = ".runs/results.sqlite"

_metadata = sa.MetaData()
_about = sa.Table(
    "scaling_harness_about",
    _metadata,
    sa.Column("only", sa.Integer, primary_key=True),  # one row, number 1, whoever writes it first
    sa.Column("format", sa.Integer, nullable=False),
)
_environments = sa.Table(
    "environments", _metadata, sa.Column("id", sa.String, primary_key=True), sa.Column("body", sa.Text, nullable=False)
)
_sweeps = sa.Table(
    "sweeps",
    _metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("started_at", sa.String, nullable=False),
    sa.Column("finished_at", sa.String),
    sa.Column("environment", sa.String, sa.ForeignKey("environments.id"), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
_trials = sa.Table(
    "trials",
    _metadata,
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
        with self._writing() as connection:
            # Another sweep may be writing the same environment at this moment.
            with suppress(IntegrityError), connection.begin_nested():
                body = info.environment.model_dump_json()
                connection.execute(_environments.insert().values(id=info.environment.id, body=body))
            connection.execute(
                _sweeps.insert().values(
                    id=info.id,
                    started_at=info.started_at,
                    environment=info.environment.id,
                    body=info.model_dump_json(exclude={"finished_at"}),
                )
            )

    def add_trial(self, sweep: str, trial: Trial) -> None:
        with self._writing() as connection:
            connection.execute(
                _trials.insert().values(
                    sweep=sweep,
                    key=trial.case.key,
                    round=trial.round,
                    outcome=trial.outcome,
                    body=trial.model_dump_json(),
                )
            )

    def finish_sweep(self, sweep: str, finished_at: str) -> None:
        with self._writing() as connection:
            connection.execute(_sweeps.update().where(_sweeps.c.id == sweep).values(finished_at=finished_at))

    def sweep_ids(self) -> list[str]:
        """All sweeps, the oldest first."""
        with self._reading() as connection:
            return list(
                connection.execute(sa.select(_sweeps.c.id).order_by(_sweeps.c.started_at, _sweeps.c.id)).scalars()
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
            row = connection.execute(sa.select(_sweeps).where(_sweeps.c.id == found)).one()
            info = SweepInfo.model_validate_json(row.body)
        return info.model_copy(update={"finished_at": row.finished_at})

    def trials(self, sweep: str) -> list[Trial]:
        with self._reading() as connection:
            query = sa.select(_trials.c.body).where(_trials.c.sweep == sweep).order_by(_trials.c.key, _trials.c.round)
            return [Trial.model_validate_json(body) for body in connection.execute(query).scalars()]

    def done(self, sweep: str) -> set[tuple[str, int]]:
        """Case key and round of the trials that have ended, however they ended."""
        with self._reading() as connection:
            query = sa.select(_trials.c.key, _trials.c.round).where(_trials.c.sweep == sweep)
            return {(row.key, row.round) for row in connection.execute(query)}

    def unfinished(self) -> str | None:
        """The sweep that began last and has not ended."""
        with self._reading() as connection:
            query = sa.select(_sweeps.c.id).where(_sweeps.c.finished_at.is_(None))
            return (
                connection.execute(query.order_by(_sweeps.c.started_at.desc(), _sweeps.c.id.desc())).scalars().first()
            )

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(f"store {self._place}: cannot be written ({_say(problem)})") from problem

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise StoreError(f"store {self._place}: cannot be read ({_say(problem)})") from problem
        except ValidationError as problem:
            first = problem.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            said = f"holds a record that can't be read ({where}: {first['msg']}); it is damaged or of another version"
            raise StoreError(f"store {self._place}: {said}") from None


def check_store(place: str) -> None:
    """Find out whether a sweep may write there; where there is no store yet, nothing is written.

    Raises :class:`StoreError` as :func:`open_store` does.
    """
    path = path_of(place)
    if path is None or path.exists():
        with _explained(place):
            engine = _engine(place)
            if _is_ours(engine, place):
                _try_to_write(engine)
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise StoreError(f"store {place}: cannot be created in {folder}; name another with --store")


def open_store(place: str, *, create: bool) -> Store:
    """Open a store by SQLAlchemy URL or file name.

    Raises :class:`StoreError` where it can't be opened, holds something else, or is of a newer format. With
    ``create`` an absent one is made; nothing is written into a file that holds anything else.
    """
    path = path_of(place)
    if path is not None and not path.exists() and not create:
        raise StoreError(f"store {place}: no such file; run `python -m harness sweep` first, or name another")
    with _explained(place):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(place)
        if _is_ours(engine, place):
            if create:
                _try_to_write(engine)
        elif create:
            _make_tables(engine)
        else:
            raise StoreError(f"store {masked(place)}: is empty; run `python -m harness sweep` first")
    return Store(engine, masked(place))


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """What goes wrong while a store is opened, as one line."""
    said = f"store {masked(place)}"
    try:
        yield
    except OSError as problem:
        raise StoreError(f"{said}: cannot be created ({problem.strerror}); name another with --store") from None
    except OperationalError as problem:
        raise StoreError(f"{said}: cannot be opened ({_say(problem)}); name another with --store") from None
    except DatabaseError as problem:
        raise StoreError(f"{said}: not a results store ({_say(problem)}); name another with --store") from None
    except (SQLAlchemyError, ImportError) as problem:
        raise StoreError(f"{said}: {_say(problem)}") from None


def _engine(place: str) -> sa.Engine:
    url = sa.make_url(place if "://" in place else f"sqlite:///{place}")
    patience = {"timeout": LOCK_PATIENCE_S} if url.drivername.startswith("sqlite") else {}
    return sa.create_engine(url, connect_args=patience)


def _is_ours(engine: sa.Engine, place: str) -> bool:
    """Whether the store holds results of a format we read; ``False`` where it holds nothing."""
    tables = sa.inspect(engine).get_table_names()
    if _about.name not in tables:
        if tables:
            raise StoreError(f"store {masked(place)}: holds other tables ({', '.join(tables[:3])}), not results; "
                             "name another with --store")  # fmt: skip
        return False
    with engine.connect() as connection:
        found = connection.execute(sa.select(_about.c.format)).scalar_one_or_none()
    if found is not None and found > FORMAT:
        raise StoreError(f"store {masked(place)}: written by a newer version (format {found}, this one reads up to "
                         f"{FORMAT}); update the harness or name another with --store")  # fmt: skip
    return found is not None


def _make_tables(engine: sa.Engine) -> None:
    """Safe where two sweeps make the same store at the same moment."""
    with suppress(OperationalError), engine.begin() as connection:
        _metadata.create_all(connection)
    with suppress(IntegrityError), engine.begin() as connection:
        connection.execute(_about.insert().values(only=1, format=FORMAT))


def _try_to_write(engine: sa.Engine) -> None:
    """Fails before anything ran where the store can't be written."""
    with engine.begin() as connection:
        connection.execute(_about.update().values(format=FORMAT))


def masked(place: str) -> str:
    """The place without its password."""
    if "://" not in place:
        return place
    try:
        return sa.make_url(place).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return place


def path_of(place: str) -> Path | None:
    """The file of a SQLite store; ``None`` for a server, a database in memory or SQLite's own ``file:`` notation."""
    if "://" not in place:
        return Path(place)
    try:
        url = sa.make_url(place)
    except SQLAlchemyError as problem:
        raise StoreError(f"store {place}: {_say(problem)}") from None
    name = url.database or ""
    plain = url.drivername.startswith("sqlite") and name and name != ":memory:" and not name.startswith("file:")
    return Path(name) if plain else None


def _say(problem: BaseException) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]
