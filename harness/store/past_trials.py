"""How long the newest trials of a machine took, read without parsing their records."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import sqlalchemy as sa
from pydantic import ValidationError
from pydantic_core import from_json

from bench.core.bounds import Duration, RoundNumber
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from harness.store.left_out import record_json
from harness.store.store import Store
from harness.store.tables import measures_table, sweeps_table, trials_table
from reports.analysis.trial_measures import is_measure

MAX_PAST_TRIALS = 300
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
    table = trials_table
    # A query that sorts records would read the steps of all of them.
    newest = (
        sa.select(*table.primary_key)
        .join(sweeps_table, sweeps_table.c.id == table.c.sweep)
        .where(table.c.outcome == "ok", sweeps_table.c.environment.in_(environments))
        .order_by(sweeps_table.c.started_at.desc(), table.c.round.desc())
        .limit(MAX_PAST_TRIALS)
    )
    with store.database.reading() as connection:
        for row in connection.execute(newest).all():
            same = (column == row._mapping[column.name] for column in table.primary_key)
            for (body,) in connection.execute(sa.select(table.c.body).where(*same)):
                yield record_json(body)
