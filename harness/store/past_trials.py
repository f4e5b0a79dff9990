"""How long the newest trials of a machine took, read without parsing their records."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

import sqlalchemy as sa
from pydantic import ValidationError
from pydantic_core import from_json

from bench.core.bounds import Duration, RoundNumber
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from harness.store.database import chunks
from harness.store.left_out import record_json
from harness.store.store import TRIALS_AT_ONCE, Store
from harness.store.tables import measures_table, sweeps_table, trials_table
from reports.analysis.trial_measures import is_measure

MAX_PAST_TRIALS = 300
MAX_LOOKED_AT = 1000
"""Trials of a sweep, of which some may have failed."""
MAX_PAST_SWEEPS = 10
MAX_READ_BYTES = 64 * 2**20
"""Of records in all. A record has every step of its trial: some ten to a hundred kilobytes usually."""


class PastTrial(FrozenModel):
    """A trial that ended well: what it was, and how long it took from the start of its processes."""

    case: Case
    round: RoundNumber
    wall_s: Duration


def read_past_trials(store: Store, machine: str) -> list[PastTrial]:
    """The newest trials of a machine, the newest first; those that can't be read are left out without a word.

    Args:
        store: An open store.
        machine: As :attr:`harness.planning.environment.Environment.machine` names it.

    Raises:
        harness.errors.StoreError: The store can't be read.
    """
    environments = store.ledger.environments()
    here = {name for name, environment in environments.items() if environment.machine == machine}
    trials, size = [], 0
    for body in _newest_records(store, here):
        size += len(body)
        try:
            record = from_json(body)
            trials.append(PastTrial.model_validate({name: record[name] for name in PastTrial.model_fields}))
        except (ValidationError, ValueError, KeyError, TypeError):
            continue
        if len(trials) >= MAX_PAST_TRIALS or size > MAX_READ_BYTES:
            break
    return trials


def read_past_rates(store: Store, machine: str, keys: Collection[str]) -> dict[str, float]:
    """What a trial of each case gave in the earlier sweep that had most of the cases, by case key; the newest of those.

    Of its trials the newest alone: a mean would scatter less than a trial.

    Args:
        store: An open store.
        machine: As :attr:`harness.planning.environment.Environment.machine` names it.
        keys: Of the cases.

    Raises:
        harness.errors.StoreError: The store can't be read.
    """
    environments = store.ledger.environments()
    here = {name for name, environment in environments.items() if environment.machine == machine}
    newest = (
        sa.select(sweeps_table.c.id)
        .where(sweeps_table.c.environment.in_(here))
        .order_by(sweeps_table.c.started_at.desc(), sweeps_table.c.id.desc())
        .limit(MAX_PAST_SWEEPS)
    )
    table = measures_table
    best: dict[str, float] = {}
    with store.database.reading() as connection:
        for (sweep,) in connection.execute(newest).all():
            query = sa.select(table.c.key, table.c.value).where(table.c.sweep == sweep, table.c.name == "rate")
            rows = connection.execute(query.order_by(table.c.round)).all()
            rates = {key: float(rate) for key, rate in rows if key in keys and is_measure("rate", rate)}
            if len(rates) > len(best):
                best = rates
    return best


def _newest_records(store: Store, environments: set[str]) -> Iterator[str]:
    """The records of the newest trials that ended well; of a sweep with thousands of trials the last rounds alone are
    looked at."""
    table, sweeps = trials_table, sweeps_table
    newest = (
        sa.select(sweeps.c.id)
        .where(sweeps.c.environment.in_(environments))
        .order_by(sweeps.c.started_at.desc(), sweeps.c.id.desc())
    )
    with store.database.reading() as connection:
        for (sweep,) in connection.execute(newest).all():
            # Of keys alone, which are in an index: rows lie among their records, a gigabyte of a large sweep.
            latest = sa.select(table.c.key, table.c.round).where(table.c.sweep == sweep)
            keys = connection.execute(latest.order_by(table.c.round.desc(), table.c.key).limit(MAX_LOOKED_AT)).all()
            for number, of_round in groupby(keys, key=lambda row: row.round):
                for some in chunks([row.key for row in of_round], TRIALS_AT_ONCE):
                    query = sa.select(table.c.body).where(
                        table.c.sweep == sweep,
                        table.c.round == number,
                        table.c.key.in_(some),
                        table.c.outcome == "ok",
                    )
                    for (body,) in connection.execute(query):
                        yield record_json(body)
