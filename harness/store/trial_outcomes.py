"""What the trials of a sweep gave, read without their steps: it decides which trials are next."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

import sqlalchemy as sa
from pydantic_core import from_json

from bench.core.records import Trial
from harness.store.database import chunks
from harness.store.foreign import typed_rows
from harness.store.left_out import record_json
from harness.store.store import TRIALS_AT_ONCE, Store
from harness.store.tables import measures_table, trials_table
from reports.analysis.trial_measures import is_measure, measure_trial

CASES_AT_ONCE = 100
"""Whose trials are in memory together."""


class TrialOutcome(NamedTuple):
    """What counts of a trial where it is decided which ones are next."""

    key: str
    """Of its case."""
    round: int
    throughput: float | None
    """Units per second of all ranks together; ``None``: it gave no number."""
    conditions: tuple[str, ...]
    """The names of those that may have disturbed it."""
    is_final: bool = False
    """It failed, timed out or did other work: further trials of its case would not make it a result."""


def outcome_of_trial(trial: Trial) -> TrialOutcome:
    """That of a trial that was read whole, or has just ended (pure)."""
    measures = measure_trial(trial)
    other_work = trial.same_work is not None and trial.same_work.verdict == "different"
    return TrialOutcome(
        trial.case.key,
        trial.round,
        None if measures is None else measures.throughput,
        tuple(condition.name for condition in trial.conditions),
        is_final=other_work or trial.outcome in ("failed", "timeout"),
    )


def read_trial_outcomes(store: Store, sweep: str) -> list[TrialOutcome]:
    """The outcomes of a sweep's trials by key, then round.

    Of trials whose throughput is stored the conditions alone are read, since a large sweep has a gigabyte of steps.

    Args:
        store: The store, open.
        sweep: The id of the sweep.

    Raises:
        StoreError: The store can't be read.
    """
    throughputs = read_throughputs(store, sweep)

    def read(_: bool) -> list[TrialOutcome]:
        return [
            TrialOutcome(row.key, row.round, throughputs[row.key, row.round], conditions)
            for batch in store.database.batches(trials_table, TRIALS_AT_ONCE, trials_table.c.sweep == sweep)
            for row in batch
            if (row.key, row.round) in throughputs and (conditions := _condition_names(row.body)) is not None
        ]

    measured = store.database.retry(read) if throughputs else []
    without = {(trial.key, trial.round) for trial in measured}
    others = [outcome_of_trial(trial) for trial in read_whole_trials(store, sweep, without)]
    return sorted([*measured, *others], key=lambda trial: (trial.key, trial.round))


def read_throughputs(store: Store, sweep: str) -> dict[tuple[str, int], float]:
    """The throughputs that are stored beside the trials of a sweep.

    Args:
        store: The store, open.
        sweep: The id of the sweep.

    Returns:
        By case key and round, in this order, units per second of all ranks together. A trial that gave no number, or
        has an injected fault, has none; nor have those of a store of format 1.

    Raises:
        StoreError: The store can't be read.
    """
    table = measures_table
    if not store.database.has_table(table):
        return {}
    done = store.done(sweep)
    query = sa.select(table.c.key, table.c.round, table.c.value).where(table.c.sweep == sweep, table.c.name == "rate")
    with store.database.reading() as connection:
        rows = typed_rows(connection, query.order_by(table.c.key, table.c.round))
    return {
        (row.key, row.round): row.value
        for row in rows
        if (row.key, row.round) in done and is_measure("rate", row.value)
    }


def _condition_names(body: object) -> tuple[str, ...] | None:
    """``None`` of a record that can't be read. A tenth of the time of a whole record, whose steps are not validated."""
    try:
        return tuple(condition["name"] for condition in from_json(record_json(body))["conditions"])
    except (ValueError, KeyError, TypeError):
        return None


def read_whole_trials(
    store: Store, sweep: str, without: Collection[tuple[str, int]] = frozenset[tuple[str, int]]()
) -> Iterator[Trial]:
    """The trials of a sweep by key, then round, with all of their steps; those of a few cases are in memory together.

    Args:
        store: The store, open.
        sweep: The id of the sweep.
        without: Case key and round of trials that are left out.

    Raises:
        StoreError: The store can't be read.
    """
    keys = sorted({key for key, number in store.done(sweep) if (key, number) not in without})
    for some in chunks(keys, CASES_AT_ONCE):
        for trials in store.trials_of_cases(sweep, some).values():
            yield from (trial for trial in trials if (trial.case.key, trial.round) not in without)


def first_successful_trial(store: Store, sweep: str) -> Trial | None:
    """A trial of a sweep that succeeded, if there is one. Raises :class:`harness.errors.StoreError`."""
    throughputs = read_throughputs(store, sweep)
    measured = (store.trial(sweep, key, number) for key, number in throughputs)
    # Of others the throughput is not stored: they have an injected fault, or the store is an old one.
    every = itertools.chain(measured, read_whole_trials(store, sweep, throughputs.keys()))
    return next((trial for trial in every if trial is not None and trial.outcome == "ok"), None)
