"""A store of an earlier format made one of today's, in one transaction: whole, or left as it was."""

from __future__ import annotations

import sqlalchemy as sa

from bench.records import Trial
from harness.storage.database import Database
from harness.storage.database_words import OTHER_STORE_HINT
from harness.storage.store import SweepInfo, record_measures, record_night
from harness.storage.tables import FORMAT, about_table, metadata, sweeps_table, trials_table


def upgrade_store(database: Database) -> None:
    """Make the tables that later formats added and fill them from the stored trials; from format 1 to 2.

    Raises :class:`harness.errors.StoreError` where the store can't be written or holds a trial that can't be read.
    """
    retry_hint = f"then repeat the command: it brings the store to format {FORMAT} first; or {OTHER_STORE_HINT}"
    with database.writing(retry_hint) as connection:
        # Who comes second waits here for the first, and then finds nothing left to do.
        update = about_table.update().where(about_table.c.format < FORMAT).values(format=FORMAT)
        if connection.execute(update).rowcount:
            metadata.create_all(connection)
            _fill_measures(connection)


def _fill_measures(connection: sa.Connection) -> None:
    """A sweep's trials at a time: they hold every step."""
    for name, body in connection.execute(sa.select(sweeps_table.c.id, sweeps_table.c.body)).all():
        record_night(connection, SweepInfo.model_validate_json(body))
        trials = sa.select(trials_table.c.body).where(trials_table.c.sweep == name)
        for trial in connection.execute(trials).scalars().all():
            record_measures(connection, name, Trial.model_validate_json(trial))
