"""The results store: sweeps and their raw trials. Statistics are computed from them, not stored.

A SQLite file by default, PostgreSQL by URL. A trial is committed when it ends, before the next starts. What checks
need and keep is in :mod:`harness.store.ledger`.
"""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property

import sqlalchemy as sa
from pydantic import Field, ValidationError

from bench.core.bounds import describe_invalid
from bench.core.frozen_model import FrozenModel
from bench.core.names import Name
from bench.core.records import Trial
from harness.errors import StoreError
from harness.planning.environment import Environment
from harness.planning.plan import Plan
from harness.planning.sources import Sources
from harness.planning.suite import Suite
from harness.store import DEFAULT_STORE
from harness.store.database import OTHER_STORE_HINT, Database
from harness.store.derived import record_measures, record_night
from harness.store.foreign import MAX_RECORD_BYTES, named_sweeps, typed_rows
from harness.store.labels import (
    NO_LABELS,
    Note,
    SweepLabels,
    Tags,
    Title,
    change_labels,
    read_labels,
    write_labels,
)
from harness.store.ledger import Ledger
from harness.store.left_out import SweepOfTrial, invalid_trial, log_left_out, record_json, trial_title
from harness.store.sweep_names import KnownSweep, resolve_sweep
from harness.store.tables import add_missing, environments_table, sweeps_table, trials_table
from reports.analysis.titles import sweep_title

TRIALS_AT_ONCE = 8
"""How many records are read at once, of 32 MiB at most."""


class SweepInfo(FrozenModel):
    """A sweep: its suite, plan, environment and times (ISO 8601)."""

    id: Name
    started_at: str
    finished_at: str | None = None
    command: str
    suite: Suite
    plan: Plan
    environment: Environment
    sources: Sources | None = None
    """``None`` in old records."""
    past_rates: dict[str, float] = Field(default={})
    """By case key, what a trial gave in an earlier sweep on this machine, where :attr:`Suite.until` needs it
    (:func:`harness.store.past_trials.read_past_rates`)."""
    title: Title | None = None
    note: Note | None = None
    tags: Tags = ()

    @property
    def shown_title(self) -> str:
        """Its title; by default, what ran, or what was to run where all was skipped."""
        return self.title or sweep_title(self.plan.cases or [skip.case for skip in self.plan.skips])

    @property
    def labels(self) -> SweepLabels:
        """What a person says of it, which is stored beside its record."""
        return SweepLabels(title=self.title, note=self.note, tags=self.tags)


class Store:
    """An open results store. ``location``: how it was opened: a file name or a URL."""

    def __init__(self, database: Database, location: str) -> None:
        self._database, self.location = database, location

    @property
    def database(self) -> Database:
        return self._database

    @cached_property
    def ledger(self) -> Ledger:
        """What checks read and keep, in the same store."""
        return Ledger(self._database)

    def begin_sweep(self, info: SweepInfo) -> None:
        """Store a new sweep with its plan and environment. Raises :class:`StoreError`, also where the id exists."""
        with self._database.writing(f"or {OTHER_STORE_HINT}") as connection:
            # Another sweep may write the same environment at the same time.
            environment_row = {"id": info.environment.id, "body": info.environment.model_dump_json()}
            add_missing(connection, environments_table, [environment_row])
            connection.execute(
                sweeps_table.insert().values(
                    id=info.id,
                    started_at=info.started_at,
                    environment=info.environment.id,
                    body=info.model_dump_json(exclude={"finished_at", *SweepLabels.model_fields}),
                )
            )
            record_night(connection, info.id, info.suite.name)
            write_labels(connection, info.id, info.labels)

    def change_plan(self, info: SweepInfo) -> None:
        """Store the plan of a sweep that runs, which has changed. Raises :class:`StoreError`."""
        body = info.model_dump_json(exclude={"finished_at", *SweepLabels.model_fields})

        def update(_: bool) -> None:
            with self._database.writing(self.resume_hint()) as connection:
                if not _is_there(connection, info.id):
                    raise StoreError(f"store {self._database.label}: sweep {info.id} was deleted while it ran")
                connection.execute(sweeps_table.update().where(sweeps_table.c.id == info.id).values(body=body))

        self._database.retry(update)

    def add_trial(self, sweep: str, trial: Trial) -> Trial:
        """Commit a trial that has ended. Raises :class:`StoreError`, also where it is stored already.

        Returns:
            The trial as it is stored: a failed one where its record is larger than a store takes.
        """
        trial, body = _storable(trial)
        row: dict[str, str | int] = {"sweep": sweep, "key": trial.case.key, "round": trial.round}

        def insert(failed_before: bool) -> None:
            with self._database.writing(self.resume_hint()) as connection:
                if failed_before and body == _stored_body(connection, row):
                    return  # the answer was lost, not the trial
                if not _is_there(connection, sweep):
                    raise StoreError(f"store {self._database.label}: sweep {sweep} was deleted while it ran")
                connection.execute(trials_table.insert().values(**row, outcome=trial.outcome, body=body))
                record_measures(connection, sweep, trial)

        self._database.retry(insert)
        return trial

    def finish_sweep(self, sweep: str, finished_at: str) -> None:
        """Store when a sweep ended (ISO 8601). Raises :class:`StoreError`."""

        def update(_: bool) -> None:
            with self._database.writing(self.resume_hint()) as connection:
                ended = sweeps_table.update().where(sweeps_table.c.id == sweep)
                connection.execute(ended.values(finished_at=finished_at))

        self._database.retry(update)

    def known_sweeps(self) -> list[KnownSweep]:
        """All sweeps with what they may be named by, the oldest first."""
        columns = (sweeps_table.c.id, sweeps_table.c.started_at, sweeps_table.c.finished_at)
        with self._database.reading() as connection:
            query = sa.select(*columns).order_by(sweeps_table.c.started_at, sweeps_table.c.id)
            rows = typed_rows(connection, query)
        named = set(named_sweeps((row.id for row in rows), self._database.label))
        labels = read_labels(self._database)
        return [
            KnownSweep(row.id, row.started_at, row.finished_at, labels.get(row.id, NO_LABELS).tags)
            for row in rows
            if row.id in named
        ]

    def sweep_ids(self) -> list[str]:
        """All sweeps, the oldest first."""
        return [sweep.id for sweep in self.known_sweeps()]

    def sweep_id(self, name: str) -> str:
        """The id of the sweep that a name means (:func:`harness.store.sweep_names.resolve_sweep`).

        Raises:
            StoreError: It means none, or several.
        """
        return resolve_sweep(name, self.known_sweeps(), self._database.label)

    def sweep(self, name: str) -> SweepInfo:
        """One sweep, named as in :meth:`sweep_id`.

        Raises:
            StoreError: There is none, the name means several, or its record is damaged.
        """
        return self.read_sweep(self.sweep_id(name))

    def read_sweep(self, sweep: str) -> SweepInfo:
        """One sweep by its id. Raises :class:`StoreError` where it is gone, or its record is damaged."""
        with self._database.reading() as connection:
            rows = typed_rows(connection, sa.select(sweeps_table).where(sweeps_table.c.id == sweep))
        if not rows:
            raise StoreError(f"store {self._database.label}: sweep {sweep} was deleted meanwhile")
        (row,) = rows
        with self._database.validated_records():
            info = SweepInfo.model_validate_json(record_json(row.body))
        labels = read_labels(self._database, [sweep]).get(sweep, NO_LABELS)
        return info.model_copy(update={"finished_at": row.finished_at, **dict(labels)})

    def sweeps(self) -> list[SweepInfo]:
        """All sweeps that can be read, the oldest first; the others are left out."""
        infos = []
        for sweep in self.sweep_ids():
            try:
                infos.append(self.read_sweep(sweep))
            except StoreError as problem:
                log_left_out(self._database.label, f"sweep {sweep}", str(problem))
        return infos

    def change_labels(self, sweep: str, change: Callable[[SweepLabels], SweepLabels]) -> SweepLabels:
        """Change title, note or tags of a sweep: :func:`harness.store.labels.change_labels`."""
        return change_labels(self._database, sweep, change)

    def trials(self, sweep: str) -> list[Trial]:
        """The trials of a sweep by key, then round; a record that can't be read is an invalid trial with the reason."""
        return self._database.retry(lambda _: self._read_trials(sweep))

    def trial(self, sweep: str, key: str, round_number: int) -> Trial | None:
        """One trial of a sweep, if it is stored: without reading the others."""
        where = (trials_table.c.sweep == sweep) & (trials_table.c.key == key) & (trials_table.c.round == round_number)
        return next(iter(self._database.retry(lambda _: self._read_trials(sweep, where))), None)

    def trials_of_cases(self, sweep: str, keys: Sequence[str]) -> dict[str, list[Trial]]:
        """The trials of some cases of a sweep by key, those of each by round: without reading the others."""
        where = (trials_table.c.sweep == sweep) & trials_table.c.key.in_(keys)
        by_key: dict[str, list[Trial]] = {}
        for trial in self._database.retry(lambda _: self._read_trials(sweep, where)):
            by_key.setdefault(trial.case.key, []).append(trial)
        return by_key

    def trial_counts(self, sweep: str) -> dict[str, int]:
        """The number of stored trials of each case that has any, by its key."""
        count = sa.func.count().label("trials")
        query = sa.select(trials_table.c.key, count).where(trials_table.c.sweep == sweep).group_by(trials_table.c.key)
        with self._database.reading() as connection:
            return {row.key: row.trials for row in typed_rows(connection, query)}

    def _read_trials(self, sweep: str, where: sa.ColumnElement[bool] | None = None) -> list[Trial]:
        wanted = trials_table.c.sweep == sweep if where is None else where
        with self._database.validated_records(), gc_paused():
            read = (
                self._read_trial(sweep, row.key, row.round, row.body)
                for batch in self._database.batches(trials_table, TRIALS_AT_ONCE, wanted)
                for row in batch
            )
            trials = [trial for trial in read if trial is not None]
        with self._database.reading() as connection:
            present = _is_there(connection, sweep)
        if not present:
            raise StoreError(f"store {self._database.label}: sweep {sweep} was deleted while it was read")
        return trials

    def _read_trial(self, sweep: str, key: str, round_number: int, body: object) -> Trial | None:
        """A stored trial; an invalid one, or none, in place of one that can't be read."""
        try:
            return Trial.model_validate_json(record_json(body))
        except ValidationError as invalid:
            problem = describe_invalid(invalid)
        log_left_out(self._database.label, trial_title(key, round_number), problem)
        return invalid_trial(body, key, round_number, problem, self._sweep_of_trial(sweep))

    def _sweep_of_trial(self, sweep: str) -> SweepOfTrial | None:
        try:
            info = self.sweep(sweep)
        except StoreError:
            return None
        return SweepOfTrial({case.key: case for case in info.plan.cases}, info.environment.id, info.started_at)

    def has_result(self, sweep: str) -> bool:
        """Whether a trial of the sweep gave a number."""
        with self._database.reading() as connection:
            successful = (trials_table.c.sweep == sweep) & (trials_table.c.outcome == "ok")
            return connection.execute(sa.select(sa.exists().where(successful))).scalar_one()

    def done(self, sweep: str) -> set[tuple[str, int]]:
        """Case key and round of the trials that have ended, with any outcome."""
        with self._database.reading() as connection:
            query = sa.select(trials_table.c.key, trials_table.c.round).where(trials_table.c.sweep == sweep)
            return {(row.key, row.round) for row in typed_rows(connection, query)}

    def unfinished(self) -> str | None:
        """The id of the newest sweep that has not ended, if any."""
        with self._database.reading() as connection:
            query = sa.select(sweeps_table.c.id).where(sweeps_table.c.finished_at.is_(None))
            newest_first = query.order_by(sweeps_table.c.started_at.desc(), sweeps_table.c.id.desc())
            rows = typed_rows(connection, newest_first)
        return next(iter(named_sweeps((row.id for row in rows), self._database.label)), None)

    def patient(self) -> AbstractContextManager[None]:
        """A context in which locks, and a server that restarts, are waited for as long as a sweep can."""
        return self._database.patience.extended()

    def close(self) -> None:
        self._database.close()

    def resume_hint(self) -> str:
        """The end of a message: how to go on with a sweep once its cause is removed."""
        where = "" if self._database.label == DEFAULT_STORE else f" --store {shlex.quote(self._database.label)}"
        return f"then `python -m harness sweep --resume{where}`"


def _storable(trial: Trial) -> tuple[Trial, str]:
    """The trial and its record; a failed one without measurements where the record is larger than a store takes."""
    body = trial.model_dump_json()
    size = len(body.encode())
    if size <= MAX_RECORD_BYTES:
        return trial, body
    reason = (
        f"its record of {size / 2**20:.0f} MiB is larger than a store takes ({MAX_RECORD_BYTES // 2**20} MiB): "
        "measure fewer steps"
    )
    without = dict.fromkeys(("ranks", "telemetry", "failures", "log_tail"), ())
    bare = trial.model_copy(update={"outcome": "failed", "reason": reason, **without})
    return bare, bare.model_dump_json()


def _is_there(connection: sa.Connection, sweep: str) -> bool:
    return connection.execute(sa.select(sweeps_table.c.id).where(sweeps_table.c.id == sweep)).first() is not None


def _stored_body(connection: sa.Connection, row: Mapping[str, str | int]) -> str | None:
    """The record of the trial with this key; ``None`` where there is none."""
    same = (trials_table.c[name] == value for name, value in row.items())
    return connection.execute(sa.select(trials_table.c.body).where(*same)).scalar_one_or_none()


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection while thousands of records are built, which takes as long as building them.

    Records have no reference cycles. They are also frozen, so that later collections skip them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
