"""``sweeps list``: the sweeps of a store, the newest first, each with what it takes on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome
from harness.archive.folders import SweepFolder, read_folder
from harness.errors import StoreError, UsageError
from harness.store.artifacts import artifact_folder, folder_is_held
from harness.store.dates import parse_moment
from harness.store.deletion import StoredRows, stored_rows
from harness.store.ledger import OUTCOME
from harness.store.left_out import log_left_out
from harness.store.location import store_path
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from harness.store.sweep_names import KnownSweep
from harness.store.tables import trials_table
from reports.analysis import formatting
from reports.analysis.cell_details import worst_outcome
from reports.formats.console import literal, print_line
from reports.formats.documents import versioned

OWN_ID_LENGTH = len("20261127-101500-ab12")
WIDE = 110
"""Columns of a terminal from which on the table has the date and the suite too."""
State = Literal["finished", "running", "unfinished"]
"""``running``: a process of this machine runs it; ``unfinished``: none does, though another machine's may."""


class SweepEntry(FrozenModel):
    """A sweep in a list."""

    sweep: str
    title: str | None
    """What it was called, or what ran; ``None`` where its record can't be read."""
    note: str | None
    tags: tuple[str, ...]
    suite: str | None
    started_at: str
    finished_at: str | None
    state: State
    ok: int
    """Number of cells with a number; those that were skipped, or not run yet, are in none of the two counts."""
    failed: int
    rows: StoredRows
    folder: SweepFolder | None
    """``None``: it has none."""
    reason: str | None = None
    """Why its record can't be read."""

    @property
    def disk_bytes(self) -> int:
        """What its rows and the files in its folder take."""
        return self.rows.bytes + (self.folder.bytes if self.folder else 0)


@dataclass(frozen=True)
class SweepList:
    """Some of a store's sweeps, the newest first."""

    sweeps: tuple[SweepEntry, ...]
    more: int
    """Older ones that the limit left out."""
    store_bytes: int | None
    """The size of a store's file; ``None`` for a server's."""

    def as_json(self) -> dict[str, Any]:
        sweeps = [{**entry.model_dump(), "disk_bytes": entry.disk_bytes} for entry in self.sweeps]
        return versioned("sweeps", {"sweeps": sweeps, "more": self.more, "store_bytes": self.store_bytes})

    def print(self, console: Console) -> None:
        if self.sweeps:
            console.print(_table(self.sweeps, wide=console.width >= WIDE))
        else:
            print_line(console, "no sweep matches")
        if self.more:
            print_line(console, f"{formatting.counted(self.more, 'older sweep')} not shown; --limit 0 shows all")
        if self.store_bytes is not None:
            print_line(console, f"the store's file: {formatting.quantity(self.store_bytes, 'B')}")


def list_sweeps(store_url: str, tag: str | None, since: datetime | None, limit: int) -> SweepList:
    """The sweeps of a store.

    Args:
        store_url: The store.
        tag: Only those that have it.
        since: Only those that began then or later.
        limit: At most so many, the newest; 0: all.

    Raises:
        StoreError: The store can't be read.
        UsageError: No sweep has the tag.
    """
    with closing(open_store(store_url, create=False)) as store:
        known = store.known_sweeps()
        if tag is not None and not any(tag in sweep.tags for sweep in known):
            raise UsageError(f"--tag {tag}: no sweep has it; `sweeps list` shows the tags")
        matching = [sweep for sweep in reversed(known) if _matches(sweep, tag, since)]
        shown = matching[:limit] if limit else matching
        entries = tuple(read_entry(store, store_url, sweep) for sweep in shown)
    path = store_path(store_url)
    return SweepList(entries, len(matching) - len(shown), None if path is None else path.stat().st_size)


def _matches(sweep: KnownSweep, tag: str | None, since: datetime | None) -> bool:
    if tag is not None and tag not in sweep.tags:
        return False
    moment = parse_moment(sweep.started_at)
    return since is None or (moment is not None and moment >= since)


def read_entry(store: Store, store_url: str, known: KnownSweep) -> SweepEntry:
    """What a list says of a sweep, also of one whose record can't be read. Raises :class:`StoreError`."""
    info, reason = _readable(store, known.id)
    folder = artifact_folder(store_url, known.id)
    running = known.finished_at is None and folder_is_held(folder)
    ok, failed = _cell_counts(outcomes_by_case(store, known.id))
    return SweepEntry(
        sweep=known.id,
        title=info.shown_title if info else None,
        note=info.note if info else None,
        tags=known.tags,
        suite=info.suite.name if info else None,
        started_at=known.started_at,
        finished_at=known.finished_at,
        state="running" if running else "unfinished" if known.finished_at is None else "finished",
        ok=ok,
        failed=failed,
        rows=stored_rows(store.database, known.id),
        folder=read_folder(folder),
        reason=reason,
    )


def _readable(store: Store, sweep: str) -> tuple[SweepInfo | None, str | None]:
    try:
        return store.read_sweep(sweep), None
    except StoreError as problem:
        return None, str(problem)


def outcomes_by_case(store: Store, sweep: str) -> Mapping[str, Sequence[Outcome]]:
    """The outcomes of the trials of each case, without their records."""
    table = trials_table
    outcomes: dict[str, list[Outcome]] = {}
    with store.database.reading() as connection:
        rows = connection.execute(sa.select(table.c.key, table.c.outcome).where(table.c.sweep == sweep)).all()
    for key, outcome in rows:
        try:
            outcomes.setdefault(key, []).append(OUTCOME.validate_python(outcome))
        except ValidationError:
            log_left_out(store.database.label, f"a trial of {sweep}", "its outcome is none")
    return outcomes


def _cell_counts(outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[int, int]:
    """The number of cells with a number, and of those that failed."""
    ok = sum(worst_outcome(of_case) == "ok" for of_case in outcomes.values())
    return ok, len(outcomes) - ok


def _table(entries: Sequence[SweepEntry], *, wide: bool) -> Table:
    """A narrow one has the tags below the title. An id is on one line unless it is longer than those of the harness."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    longest = max(len(entry.sweep) for entry in entries)
    table.add_column("sweep", overflow="fold", min_width=min(longest, OWN_ID_LENGTH))
    if wide:
        table.add_column("began (UTC)", no_wrap=True)
    table.add_column("title", overflow="fold", ratio=1)
    if wide:
        table.add_column("tags", overflow="fold")
    table.add_column("ok", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("disk", justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(
            literal(entry.sweep),
            *([literal(entry.started_at[:16].replace("T", " "))] if wide else []),
            _title(entry, tags=not wide),
            *([literal(", ".join(entry.tags))] if wide else []),
            literal(str(entry.ok)),
            literal(str(entry.failed), "red" if entry.failed else ""),
            literal(formatting.quantity(entry.disk_bytes, "B")),
        )
    return table


def _title(entry: SweepEntry, *, tags: bool) -> Text:
    title = entry.title or "its record can't be read"
    if entry.state != "finished":
        title = f"[{entry.state}] {title}"
    shown = literal(title, "" if entry.state == "finished" else "yellow")
    return shown.append(f"\n{', '.join(entry.tags)}", "cyan") if tags and entry.tags else shown
