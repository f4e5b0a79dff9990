"""What checks need of sweeps and trials, stored beside them, so that a check parses neither plans nor steps."""

from __future__ import annotations

import json

import sqlalchemy as sa

from bench.core.records import Trial
from harness.store.tables import add_missing, cells_table, measures_table, nights_table
from reports.analysis.trial_measures import join_settings, stored_measures, trial_settings


def record_night(connection: sa.Connection, sweep: str, suite: str) -> None:
    """Store what checks need of a sweep: the name of its suite."""
    add_missing(connection, nights_table, [{"sweep": sweep, "suite": suite}])


def record_measures(connection: sa.Connection, sweep: str, trial: Trial) -> None:
    """Store what checks need of a trial. Injected faults are not judged."""
    if trial.case.fault is not None:
        return
    key = trial.case.key
    settings = json.dumps(trial_settings(trial), sort_keys=True)
    added = add_missing(connection, cells_table, [{"sweep": sweep, "key": key, "settings": settings}])
    if not added and trial.outcome == "ok":
        # A trial that failed before this one does not know the variables of its ranks; others had other nodes.
        row = (cells_table.c.sweep == sweep) & (cells_table.c.key == key)
        before = json.loads(connection.execute(sa.select(cells_table.c.settings).where(row)).scalar_one())
        settings = json.dumps(join_settings(before, trial_settings(trial)), sort_keys=True)
        connection.execute(cells_table.update().where(row).values(settings=settings))
    rows = [
        {"sweep": sweep, "key": key, "round": trial.round, "name": name, "value": value}
        for name, value in stored_measures(trial).items()
    ]
    add_missing(connection, measures_table, rows)
