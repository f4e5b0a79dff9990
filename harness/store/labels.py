"""Title, note and tags of a sweep: what a person says of it. They may change after it has run.

They lie in a table of their own, since a sweep's record does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator, Field

from bench.core.frozen_model import FrozenModel
from bench.core.names import NAME
from bench.core.text import one_line, printable
from harness.errors import StoreError, UsageError
from harness.store.database import OTHER_STORE_HINT, Database
from harness.store.foreign import typed_rows
from harness.store.left_out import read_record
from harness.store.tables import labels_table, sweeps_table

MAX_TITLE_LENGTH = 120
MAX_NOTE_LENGTH = 2_000
MAX_TAG_LENGTH = 40
MAX_TAGS = 20
"""Of a sweep."""
SHOWN_LENGTH = 40
LATEST = "latest"
"""What names the newest sweep, and is no tag."""
RETRY_HINT = f"then repeat the command, or {OTHER_STORE_HINT}"


def check_title(title: str) -> str:
    """A title as it is kept: without white space around it. Raises :class:`ValueError` for what is none (pure)."""
    return _checked_text("title", title.strip(), MAX_TITLE_LENGTH)


def check_note(note: str) -> str:
    """As :func:`check_title`; a note may have several lines."""
    return _checked_text("note", note.strip(), MAX_NOTE_LENGTH, keep="\n")


def check_tag(tag: str) -> str:
    """A tag itself. Raises :class:`ValueError` where it doesn't have the form of one (pure)."""
    if len(tag) > MAX_TAG_LENGTH or not NAME.fullmatch(tag) or tag == LATEST:
        raise ValueError(
            f"'{one_line(tag, SHOWN_LENGTH)}' is no tag: it has 1 to {MAX_TAG_LENGTH} of the characters A-Z, a-z, 0-9, "
            f"'.', '_' and '-', begins with a letter or a digit, does not end with a dot, and is not '{LATEST}'"
        )
    return tag


def _checked_text(what: str, text: str, longest: int, keep: str = "") -> str:
    if not text:
        raise ValueError(f"a {what} has at least one character")
    if len(text) > longest:
        raise ValueError(f"a {what} has at most {longest:,} characters, and this one {len(text):,}")
    if printable(text, keep) != text:
        raise ValueError(f"a {what} has no control characters or invisible ones, and this one does")
    return text


def _distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


Title = Annotated[str, AfterValidator(check_title)]
Note = Annotated[str, AfterValidator(check_note)]
Tags = Annotated[
    tuple[Annotated[str, AfterValidator(check_tag)], ...], Field(max_length=MAX_TAGS), AfterValidator(_distinct)
]


class SweepLabels(FrozenModel):
    """What a person says of a sweep."""

    title: Title | None = None
    note: Note | None = None
    tags: Tags = ()


NO_LABELS = SweepLabels()


def parse_label(option: str, check: Callable[[str], str], text: str) -> str:
    """A label that was typed. Raises :class:`UsageError`, which names the option."""
    try:
        return check(text)
    except ValueError as problem:
        raise UsageError(f"{option}: {problem}") from None


def read_labels(database: Database, sweeps: Sequence[str] | None = None) -> Mapping[str, SweepLabels]:
    """The labels by sweep, of those that have any. A record that can't be read is left out.

    Args:
        database: A store's, of any format.
        sweeps: Only of these; ``None``: of all.

    Raises:
        StoreError: The store can't be read.
    """
    if not database.has_table(labels_table):
        return {}
    query = sa.select(labels_table)
    if sweeps is not None:
        query = query.where(labels_table.c.sweep.in_(sweeps))
    with database.reading() as connection:
        rows = typed_rows(connection, query)
    read = (
        (row.sweep, read_record(database.label, SweepLabels, f"the labels of sweep {row.sweep}", row.body))
        for row in rows
    )
    return {sweep: labels for sweep, labels in read if labels is not None}


def write_labels(connection: sa.Connection, sweep: str, labels: SweepLabels) -> None:
    """Replace the labels of a sweep."""
    connection.execute(labels_table.delete().where(labels_table.c.sweep == sweep))
    if labels != NO_LABELS:
        connection.execute(labels_table.insert().values(sweep=sweep, body=labels.model_dump_json()))


def change_labels(database: Database, sweep: str, change: Callable[[SweepLabels], SweepLabels]) -> SweepLabels:
    """Change the labels of a sweep in one transaction: of two that change them at once, neither is lost.

    Args:
        database: A store's, of the present format.
        sweep: Its id.
        change: From the labels that it has to those that it gets; may raise :class:`UsageError`.

    Returns:
        What it has now.

    Raises:
        StoreError: The store can't be written, or the sweep is gone.
    """
    with database.writing(RETRY_HINT) as connection:
        # On a server a second one that changes them waits here; on SQLite it waits for the transaction.
        row = sa.select(sweeps_table.c.id).where(sweeps_table.c.id == sweep).with_for_update()
        if connection.execute(row).first() is None:
            raise StoreError(f"store {database.label}: sweep {sweep} was deleted meanwhile")
        body = connection.execute(
            sa.select(labels_table.c.body).where(labels_table.c.sweep == sweep)
        ).scalar_one_or_none()
        before = None if body is None else read_record(database.label, SweepLabels, f"the labels of {sweep}", body)
        labels = change(before or NO_LABELS)
        write_labels(connection, sweep, labels)
    return labels
