"""Tables of the results store, and the history of its format.

Format history
    1  environments, sweeps, trials
    2  nights, cells, measures (computed from sweeps and trials, so that a check parses none), verdicts, acceptances,
       pairs, ingested runs. Tables were added and none was changed: code that reads trials reads both formats.
    3  labels: title, note and tags of sweeps. A sweep without a row there has none.
    4  case_summaries, sweep_summaries: what reports need of trials, made again where it is missing, of other code or of
       fewer trials (:mod:`harness.store.summaries`). An upgrade fills none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

FORMAT = 4

# PostgreSQL sorts text by the language of the database, SQLite by bytes.
SortedString = sa.String().with_variant(sa.String(collation="C"), "postgresql")

metadata = sa.MetaData()
about_table = sa.Table(
    "scaling_harness_about",
    metadata,
    sa.Column("only", sa.Integer, primary_key=True),  # a single row, number 1
    sa.Column("format", sa.Integer, nullable=False),
)
environments_table = sa.Table(
    "environments",
    metadata,
    sa.Column("id", SortedString, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
sweeps_table = sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", SortedString, primary_key=True),
    sa.Column("started_at", SortedString, nullable=False),
    sa.Column("finished_at", SortedString),
    sa.Column("environment", SortedString, sa.ForeignKey("environments.id"), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
trials_table = sa.Table(
    "trials",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("key", SortedString, primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("outcome", SortedString, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

labels_table = sa.Table(
    "labels",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
nights_table = sa.Table(
    "nights",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("suite", SortedString, nullable=False),
)
cells_table = sa.Table(
    "cells",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("key", SortedString, primary_key=True),
    sa.Column("settings", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
measures_table = sa.Table(
    "measures",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("key", SortedString, primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("name", SortedString, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sqlite_with_rowid=False,  # the key is most of a row, and would be stored twice
)

case_summaries_table = sa.Table(
    "case_summaries",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("key", SortedString, primary_key=True),
    sa.Column("code", SortedString, nullable=False),
    sa.Column("trials", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
sweep_summaries_table = sa.Table(
    "sweep_summaries",
    metadata,
    sa.Column("sweep", SortedString, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("code", SortedString, nullable=False),
    sa.Column("trials", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("cells", sa.Text, nullable=False),
)

# A night is a sweep, or one of ingested runs that belong to no sweep: the tables below refer to none.
verdicts_table = sa.Table(
    "verdicts",
    metadata,
    sa.Column("night", SortedString, primary_key=True),
    sa.Column("series", SortedString, primary_key=True),
    sa.Column("metric", SortedString, primary_key=True),
    sa.Column("status", SortedString, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
acceptances_table = sa.Table(
    "acceptances",
    metadata,
    sa.Column("curve", SortedString, primary_key=True),
    sa.Column("since", SortedString, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
pairs_table = sa.Table(
    "pairs",
    metadata,
    sa.Column("night", SortedString, primary_key=True),
    sa.Column("key", SortedString, primary_key=True),
    sa.Column("pair", sa.Integer, primary_key=True),
    sa.Column("side", SortedString, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
runs_table = sa.Table(
    "ingested_runs",
    metadata,
    sa.Column("benchmark", SortedString, primary_key=True),
    sa.Column("run", SortedString, primary_key=True),
    sa.Column("night", SortedString, nullable=False, index=True),
    sa.Column("at", SortedString, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
NIGHTLY_TABLES = (verdicts_table, acceptances_table, pairs_table, runs_table)


def create_tables(connection: sa.Connection) -> None:
    """Create the tables, and their indexes, that are missing."""
    for statement in _creation(connection.dialect.name):
        connection.exec_driver_sql(statement)


@cache
def _creation(dialect: str) -> tuple[str, ...]:
    """What creates missing tables, written once a process (pure): SQLAlchemy asks about each table and writes its
    statement again for each store."""
    written_for = {"postgresql": postgresql, "sqlite": sqlite}[dialect].dialect()
    statements: list[ExecutableDDLElement] = []
    for table in metadata.sorted_tables:
        statements.append(CreateTable(table, if_not_exists=True))
        statements += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return tuple(str(statement.compile(dialect=written_for)) for statement in statements)


def add_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose key does not exist, safe against other processes; returns their number."""
    if not rows:
        return 0
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # psycopg gives no row count for several rows.
    added = insert(table).on_conflict_do_nothing().returning(next(iter(table.primary_key)))
    return len(connection.execute(added, list(rows)).all())
