"""What reports need of trials, kept beside them, so that a report of thousands of cells reads no steps.

Summaries are derived: a row that is missing, was made by other code, of fewer trials than are stored, or that can't be
read, is made again of the trials. They are kept while a sweep runs, when the last trial of a case ends, and by reports
of older sweeps where the store has the tables and can be written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

import bench.core
import reports.analysis
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.records import Trial
from harness.errors import StoreError
from harness.store.database import Database, chunks
from harness.store.foreign import MAX_RECORD_BYTES, typed_rows
from harness.store.left_out import record_json
from harness.store.opening import open_store
from harness.store.store import Store, gc_paused
from harness.store.tables import case_summaries_table, sweep_summaries_table, trials_table
from reports.analysis.case_summary import CaseSummary, summarize_case
from reports.analysis.comparison import Night, NightCell

CASES_AT_ONCE = 100
"""Whose trials are in memory together."""
ROWS_AT_ONCE = 100
MIN_KEPT_CASES = 100
"""The trials of fewer cases are read in a second or two."""
MAX_BODY_LENGTH = MAX_RECORD_BYTES // 4
"""Of a record, in characters of 4 bytes at most."""
PATIENCE_S = 2.0
RETRY_HINT = "or leave it: a report makes them again"
NIGHT_CELLS: TypeAdapter[tuple[NightCell, ...]] = TypeAdapter(tuple[NightCell, ...])
ModelT = TypeVar("ModelT", bound=FrozenModel)
log = logging.getLogger("scaling_harness")


@cache
def summary_code() -> str:
    """A digest of the code that summaries are made by: of other code they may say something else."""
    digest = hashlib.sha256()
    for package in (bench.core, reports.analysis):
        for file in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_summaries(
    store: Store,
    sweep: str,
    cases: Sequence[Case],
    detailed: Collection[str],
    seen: Callable[[str, list[Trial]], None],
    keep: Callable[[Mapping[str, CaseSummary]], None],
) -> dict[str, CaseSummary]:
    """The summaries of the cases of a sweep that have trials, by key; those that are not kept are made.

    Args:
        store: The store, open.
        sweep: The id of the sweep.
        cases: Planned and skipped ones.
        detailed: The keys of cases whose summaries are whole. Of many others what only details show is left out: it is
            most of what would be in memory.
        seen: Takes the key and the trials of each case whose summary is made.
        keep: Takes summaries that were made, some at a time, where there are many.

    Raises:
        StoreError: The store can't be read.
    """
    counts = store.trial_counts(sweep)
    planned = {case.key: case for case in cases if case.key in counts}
    many = len(planned) >= MIN_KEPT_CASES
    summaries = {
        key: summary.without_details() if many and key not in detailed else summary
        for key, summary in _kept(store.database, sweep, counts)
        if key in planned
    }
    for keys in chunks([key for key in planned if key not in summaries], CASES_AT_ONCE):
        made = {}
        for key, trials in store.trials_of_cases(sweep, keys).items():
            if key in planned:
                made[key] = summarize_case(planned[key], trials)
                seen(key, trials)
        if many:
            keep(made)
        summaries |= {
            key: summary.without_details() if many and key not in detailed else summary for key, summary in made.items()
        }
    return summaries


def _kept(database: Database, sweep: str, counts: Mapping[str, int]) -> Iterator[tuple[str, CaseSummary]]:
    """Those of this code and of all trials, by key."""
    if not database.has_table(case_summaries_table):
        return
    table = case_summaries_table
    where = (table.c.sweep == sweep) & (table.c.code == summary_code())
    with gc_paused():
        for batch in database.batches(table, ROWS_AT_ONCE, where):
            for row in batch:
                if counts.get(row.key) == row.trials and (summary := parse_kept(CaseSummary, row.body)) is not None:
                    yield row.key, summary


def parse_kept(kind: type[ModelT], body: object) -> ModelT | None:
    """A derived record; ``None`` of one that can't be read, which is made again."""
    try:
        return kind.model_validate_json(record_json(body))
    except ValidationError:
        return None


def keep_case(store: Store, sweep: str, case: Case) -> None:
    """Keep the summary of a case of a running sweep that has had its trials, where that is possible just now.

    Args:
        store: The store of the sweep.
        sweep: Its id.
        case: As it was planned.
    """
    try:
        trials = store.trials_of_cases(sweep, [case.key])[case.key]
        _write_summaries(store, sweep, {case.key: summarize_case(case, trials)})
    except StoreError as problem:
        log.debug("the summary of case %s: not kept: %s", case.key, problem)


def keep_summaries(store_url: str, sweep: str, summaries: Mapping[str, CaseSummary]) -> bool:
    """Keep summaries of a sweep that has ended, where the store can be written; else it stays as it is.

    Returns:
        Whether more of them can be kept.
    """

    def keep(store: Store) -> None:
        _write_summaries(store, sweep, summaries)

    return _keep_if_possible(store_url, case_summaries_table, keep, f"the case summaries of sweep {sweep}")


def _write_summaries(store: Store, sweep: str, summaries: Mapping[str, CaseSummary]) -> None:
    """In place of those that are kept; one that is larger than a store takes is not."""
    table, code = case_summaries_table, summary_code()
    bodies = {key: summary.model_dump_json() for key, summary in summaries.items()}
    rows = [
        {"sweep": sweep, "key": key, "code": code, "trials": summaries[key].trials, "body": body}
        for key, body in bodies.items()
        if len(body) <= MAX_BODY_LENGTH
    ]
    if rows:
        with store.database.writing(RETRY_HINT) as connection:
            connection.execute(table.delete().where((table.c.sweep == sweep) & table.c.key.in_(list(bodies))))
            connection.execute(table.insert(), rows)


def read_nights(store: Store) -> dict[str, Night]:
    """The kept summaries of sweeps as nights, by sweep; their cells are read by :func:`read_night_cells`.

    Raises:
        StoreError: The store can't be read.
    """
    table = sweep_summaries_table
    if not store.database.has_table(table):
        return {}
    query = sa.select(table.c.sweep, table.c.trials, table.c.body).where(table.c.code == summary_code())
    every = sa.select(trials_table.c.sweep, sa.func.count().label("trials")).group_by(trials_table.c.sweep)
    with store.database.reading() as connection:
        rows = typed_rows(connection, query)
        counts = {row.sweep: row.trials for row in typed_rows(connection, every)}
    read = ((row.sweep, parse_kept(Night, row.body)) for row in rows if counts.get(row.sweep, 0) == row.trials)
    return {sweep: night for sweep, night in read if night is not None and night.sweep == sweep}


def read_night_cells(store: Store, nights: Sequence[Night]) -> list[Night]:
    """The nights with their cells; those whose cells can't be read are left out.

    Raises:
        StoreError: The store can't be read.
    """
    table, texts = sweep_summaries_table, {}
    for some in chunks([night.sweep for night in nights], CASES_AT_ONCE):
        with store.database.reading() as connection:
            query = sa.select(table.c.sweep, table.c.cells).where(table.c.sweep.in_(some))
            texts.update({sweep: record_json(cells) for sweep, cells in connection.execute(query)})
    whole = []
    with gc_paused():
        for night in nights:
            with suppress(ValidationError):
                cells = NIGHT_CELLS.validate_json(texts.get(night.sweep, ""))
                whole.append(night.model_copy(update={"cells": cells}))
    return whole


def is_night_kept(store: Store, sweep: str, trials: int) -> bool:
    """Whether the summary of a sweep is kept, made by this code of so many trials. Raises :class:`StoreError`."""
    table = sweep_summaries_table
    if not store.database.has_table(table):
        return False
    kept = (table.c.sweep == sweep) & (table.c.code == summary_code()) & (table.c.trials == trials)
    with store.database.reading() as connection:
        return connection.execute(sa.select(sa.exists().where(kept))).scalar_one()


def keep_nights(store_url: str, nights: Sequence[tuple[Night, int]]) -> None:
    """Keep summaries of sweeps that have ended, where the store can be written; else it stays as it is.

    Args:
        store_url: The store.
        nights: Each with the number of trials that it was made of.
    """
    table, code = sweep_summaries_table, summary_code()
    rows = [
        {"sweep": night.sweep, "code": code, "trials": trials, "body": head, "cells": cells}
        for night, trials in nights
        if night.finished
        for head, cells in [(night.model_copy(update={"cells": ()}).model_dump_json(), _cells_json(night))]
        if max(len(head), len(cells)) <= MAX_BODY_LENGTH
    ]

    def keep(store: Store) -> None:
        query = sa.select(table.c.sweep, table.c.trials).where(table.c.code == code)
        with store.database.reading() as connection:
            kept = {(row.sweep, row.trials) for row in typed_rows(connection, query)}
        if stale := [row for row in rows if (row["sweep"], row["trials"]) not in kept]:
            with store.database.writing(RETRY_HINT) as connection:
                connection.execute(table.delete().where(table.c.sweep.in_([row["sweep"] for row in stale])))
                connection.execute(table.insert(), stale)

    if rows:
        _keep_if_possible(store_url, table, keep, "summaries of sweeps")


def _cells_json(night: Night) -> str:
    """With what a dump leaves out: titles, and whether a commit says what a program was."""
    return json.dumps(
        [
            {
                **cell.model_dump(mode="json"),
                "case": {**cell.case.model_dump(mode="json"), "compared_by_commit": cell.case.compared_by_commit},
                "labels": cell.labels.model_dump(mode="json"),
            }
            for cell in night.cells
        ]
    )


def _keep_if_possible(store_url: str, table: sa.Table, keep: Callable[[Store], None], what: str) -> bool:
    """Keep something, unless the store has an earlier format, which a report leaves as it is, or can't be written:
    what is not kept is made again. ``what``: for the log. Returns whether it was kept."""
    try:
        with closing(open_store(store_url, create=False)) as store:
            if not store.database.has_table(table):
                return False
        with closing(open_store(store_url, create=False, upgrade=True)) as store:
            # Others that hold it longer are not worth waiting for.
            store.database.patience.limit_s = min(store.database.patience.limit_s, PATIENCE_S)
            keep(store)
    except StoreError as problem:
        log.debug("%s: not kept: %s", what, problem)
        return False
    return True
