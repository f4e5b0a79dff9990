"""The part of a store that checks use: measures of trials, verdicts, acceptances, pairs and ingested benchmarks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import index
from sys import intern
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bench.core.bounds import MAX_SHOWN_LENGTH, RoundNumber, StepDuration, Timestamp, describe_invalid
from bench.core.frozen_model import FrozenModel
from bench.core.names import Name
from bench.core.records import Outcome, Trial
from bench.core.text import one_line
from harness.planning.environment import Environment
from harness.store.database import OTHER_STORE_HINT, Database
from harness.store.foreign import UnexpectedValueError, named_sweeps, typed_rows
from harness.store.left_out import MAX_KEY_LENGTH, log_left_out, read_record, record_json, trial_title
from harness.store.tables import (
    acceptances_table,
    add_missing,
    cells_table,
    environments_table,
    measures_table,
    nights_table,
    pairs_table,
    runs_table,
    sweeps_table,
    trials_table,
    verdicts_table,
)
from reports.analysis.label_order import natural_key
from reports.analysis.trial_measures import is_measure
from reports.regression.values import Metric, Status, Verdict

ModelT = TypeVar("ModelT", bound=FrozenModel)
SETTINGS = TypeAdapter(dict[str, str])
OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)
STATUS: TypeAdapter[Status] = TypeAdapter(Status)
METRIC: TypeAdapter[Metric] = TypeAdapter(Metric)
ROWS_AT_ONCE = 10_000
RETRY_HINT = f"then repeat the command, or {OTHER_STORE_HINT}"


class NightRow(FrozenModel):
    """A sweep as a night of a history, without its plan. ``environment`` is an id."""

    id: Name
    suite: str
    started_at: str
    finished_at: str | None
    environment: str


class Acceptance(FrozenModel):
    """An intended change: from the night ``since`` on, the new level of the curve is its reference."""

    curve: str
    since: str
    because: str
    at: str
    """When it was accepted, as ISO 8601."""


class PairTrial(FrozenModel):
    """One trial of an interleaved pair."""

    sweep: Name
    """The night whose suspicion it confirms or refutes."""
    key: str
    pair: RoundNumber
    """Counts from 0."""
    side: Literal["head", "base"]
    commit: str
    trial: Trial


class IngestedRun(FrozenModel):
    """One run of a benchmark that another tool timed."""

    night: str
    benchmark: str
    run: str
    """Identifies a run of a benchmark, which is stored once."""
    at: Timestamp

    commit: str | None
    changed_files: bool | None = None
    """Whether files differed from the commit; ``None`` where that is unknown."""
    place: dict[str, str] = Field(default={})
    """Machine, interpreter and versions by name; runs are comparable only where all are equal."""
    seconds: tuple[StepDuration, ...]
    source: str


RECORD_NAMES: dict[type[FrozenModel], str] = {
    Verdict: "a verdict",
    Acceptance: "an acceptance",
    PairTrial: "a trial of a pair",
    IngestedRun: "an ingested run",
}


class _Reason(BaseModel):
    reason: str | None = None


class Ledger:
    """The part of a store that checks use. Every method may raise :class:`harness.errors.StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def nights(self, suite: str | None = None, last: int | None = None) -> list[NightRow]:
        """Sweeps, finished or not, the oldest first. ``suite``: only of this suite; ``last``: at most so many."""
        query = (
            sa.select(
                sweeps_table.c.id,
                nights_table.c.suite,
                sweeps_table.c.started_at,
                sweeps_table.c.finished_at,
                sweeps_table.c.environment,
            )
            .join(nights_table, nights_table.c.sweep == sweeps_table.c.id)
            .order_by(sweeps_table.c.started_at.desc(), sweeps_table.c.id.desc())
            .limit(last)
        )
        if suite is not None:
            query = query.where(nights_table.c.suite == suite)
        rows = list(reversed(self._rows(query)))
        named = set(named_sweeps((row.id for row in rows), self._database.label))
        places = self.environments()
        return [NightRow(**row._mapping) for row in rows if row.id in named and row.environment in places]

    def measures(self, sweeps: Sequence[str]) -> list[tuple[str, str, int, str, float]]:
        """Sweep, case key, round, name and value of each number of
        :func:`reports.analysis.trial_measures.measures_of`."""
        table = measures_table
        query = sa.select(table).where(table.c.sweep.in_(sweeps)).order_by(*table.primary_key)
        with self._database.reading() as connection:
            rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
            try:
                # A million rows share a few names.
                read = [
                    (intern(sweep), intern(key), index(number), intern(name), value)
                    for sweep, key, number, name, value in rows
                ]
            except (TypeError, ValueError):
                raise UnexpectedValueError("a measure of no trial") from None
        known = [row for row in read if is_measure(row[3], row[4])]
        for sweep, key, number, name, value in read if len(known) < len(read) else ():
            if not is_measure(name, value):
                what = f"the measure {one_line(name, MAX_SHOWN_LENGTH)} of {trial_title(key, number)} in sweep {sweep}"
                log_left_out(self._database.label, what, f"it is {one_line(repr(value), MAX_SHOWN_LENGTH)}")
        return known

    def settings(self, sweeps: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
        """By sweep and key, what :func:`reports.analysis.trial_measures.settings_of` says; not of faults on purpose."""
        rows = self._rows(sa.select(cells_table).where(cells_table.c.sweep.in_(sweeps)))
        read: dict[str, dict[str, str]] = {}
        for row in rows:
            if row.settings not in read:
                try:
                    read[row.settings] = SETTINGS.validate_json(row.settings)
                except ValidationError as problem:
                    what = f"the settings of {one_line(row.key, MAX_KEY_LENGTH)}"
                    log_left_out(self._database.label, what, describe_invalid(problem))
        return {(row.sweep, row.key): read[row.settings] for row in rows if row.settings in read}

    def outcomes(self, sweep: str) -> list[tuple[str, int, Outcome, str | None]]:
        """Key, round, outcome and reason of each trial without an injected fault."""
        table = trials_table
        meant = sa.and_(cells_table.c.sweep == table.c.sweep, cells_table.c.key == table.c.key)
        # The body of a successful trial holds every step, and no reason.
        body = sa.case((table.c.outcome != "ok", table.c.body), else_="{}").label("body")
        query = sa.select(table.c.key, table.c.round, table.c.outcome, body).join(cells_table, meant)
        with self._database.reading() as connection:
            rows = typed_rows(connection, query.where(table.c.sweep == sweep).order_by(table.c.key, table.c.round))
        return [(row.key, row.round, *self._outcome(row)) for row in rows]

    def _outcome(self, row: sa.Row[Any]) -> tuple[Outcome, str | None]:
        try:
            return OUTCOME.validate_python(row.outcome), _Reason.model_validate_json(record_json(row.body)).reason
        except ValidationError as problem:
            title, why = trial_title(row.key, row.round), describe_invalid(problem)
            log_left_out(self._database.label, title, why)
            return "invalid", f"its record can't be read: {why}"

    def environments(self) -> dict[str, Environment]:
        """All environments by id."""
        label = self._database.label
        read = (
            (row.id, read_record(label, Environment, f"environment {row.id}", row.body))
            for row in self._rows(sa.select(environments_table))
        )
        return {name: environment for name, environment in read if environment is not None}

    def save_verdicts(self, sweep: str, verdicts: Sequence[Verdict]) -> None:
        """Replace the verdicts of an earlier check of the same night."""
        rows = [
            {
                "night": sweep,
                "series": verdict.name,
                "metric": verdict.metric,
                "status": verdict.status,
                "body": verdict.model_dump_json(),
            }
            for verdict in verdicts
        ]
        with self._database.writing(RETRY_HINT) as connection:
            connection.execute(verdicts_table.delete().where(verdicts_table.c.night == sweep))
            add_missing(connection, verdicts_table, rows)

    def verdicts(self, sweep: str) -> tuple[Verdict, ...]:
        """The stored verdicts on a night, by series and metric."""
        table = verdicts_table
        query = sa.select(table.c.body).where(table.c.night == sweep).order_by(*table.primary_key)
        return tuple(self._values(query, Verdict))

    def statuses(self, sweeps: Sequence[str]) -> dict[tuple[str, str, Metric], Status]:
        """The status of each stored verdict by sweep, series and metric."""
        table = verdicts_table
        columns = (table.c.night, table.c.series, table.c.metric, table.c.status)
        rows = self._rows(sa.select(*columns).where(table.c.night.in_(sweeps)))
        statuses = {}
        for row in rows:
            try:
                metric, status = METRIC.validate_python(row.metric), STATUS.validate_python(row.status)
            except ValidationError as problem:
                log_left_out(self._database.label, f"a verdict of night {row.night}", describe_invalid(problem))
            else:
                statuses[row.night, row.series, metric] = status
        return statuses

    def accept(self, acceptance: Acceptance) -> None:
        """Store an acceptance; it replaces one of the same curve and night."""
        table = acceptances_table
        same = sa.and_(table.c.curve == acceptance.curve, table.c.since == acceptance.since)
        row = {"curve": acceptance.curve, "since": acceptance.since, "body": acceptance.model_dump_json()}
        with self._database.writing(RETRY_HINT) as connection:
            connection.execute(table.delete().where(same))
            add_missing(connection, table, [row])

    def acceptances(self) -> tuple[Acceptance, ...]:
        """In the order in which they were made."""
        acceptances = self._values(sa.select(acceptances_table.c.body), Acceptance)
        return tuple(sorted(acceptances, key=lambda acceptance: (acceptance.at, acceptance.curve, acceptance.since)))

    def add_pair(self, pair: PairTrial) -> None:
        """Store a trial of a pair. One that exists is an error: two processes confirm the same night."""
        row = {"night": pair.sweep, "key": pair.key, "pair": pair.pair, "side": pair.side}
        with self._database.writing(RETRY_HINT) as connection:
            connection.execute(pairs_table.insert().values(**row, body=pair.model_dump_json()))

    def pairs(self, sweep: str) -> tuple[PairTrial, ...]:
        """The trials of a night's pairs by key, then pair, base before head."""
        table = pairs_table
        query = sa.select(table.c.body).where(table.c.night == sweep).order_by(*table.primary_key)
        return tuple(self._values(query, PairTrial))

    def add_run(self, run: IngestedRun) -> bool:
        """Store a run; ``False`` where it is stored already."""
        row = {"benchmark": run.benchmark, "run": run.run, "night": run.night, "at": run.at}
        with self._database.writing(RETRY_HINT) as connection:
            return bool(add_missing(connection, runs_table, [{**row, "body": run.model_dump_json()}]))

    def remove_runs(self, nights: Sequence[str], runs: Collection[tuple[str, str]]) -> None:
        """Remove runs, by benchmark and run, from these nights, to be stored again with a date that is true."""
        present = [run for run in self.runs(nights) if (run.benchmark, run.run) in runs] if nights else []
        if not present:
            return
        with self._database.writing(RETRY_HINT) as connection:
            for run in present:
                key = sa.and_(runs_table.c.benchmark == run.benchmark, runs_table.c.run == run.run)
                connection.execute(runs_table.delete().where(key))

    def ingested_dates(self) -> dict[str, str]:
        """Nights with ingested runs, the oldest first, and when the first run of each was measured."""
        table = runs_table
        began = sa.func.min(table.c.at).label("began")
        rows = self._rows(sa.select(table.c.night, began).group_by(table.c.night))
        # Of nights that began at the same time, 3.10 comes after 3.9.
        ordered = sorted(rows, key=lambda row: (row.began, natural_key(row.night), row.night))
        return {row.night: row.began for row in ordered}

    def ingested_nights(self, last: int | None = None) -> list[str]:
        """Nights with ingested runs, the oldest first (by the first run of each); ``last``: at most so many."""
        return list(self.ingested_dates())[-last if last else 0 :]

    def runs(self, nights: Sequence[str]) -> tuple[IngestedRun, ...]:
        """The runs of these nights by benchmark, then by time."""
        table = runs_table
        query = sa.select(table.c.body).where(table.c.night.in_(nights))
        return tuple(self._values(query.order_by(table.c.benchmark, table.c.at, table.c.run), IngestedRun))

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._database.reading() as connection:
            return typed_rows(connection, query)

    def _values(self, query: sa.Select[Any], kind: type[ModelT]) -> list[ModelT]:
        name = RECORD_NAMES[kind]
        read = (read_record(self._database.label, kind, name, body) for (body,) in self._rows(query))
        return [record for record in read if record is not None]
