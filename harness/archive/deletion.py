"""``sweeps delete`` and ``sweeps prune``: what would go is said first, then it goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from harness.archive.listing import SweepEntry, read_entry
from harness.archive.removal import finish_deletions, remove_sweeps
from harness.archive.selection import KeptSweep, check_named, choose_prunable, running_problem
from harness.errors import StoreError, UsageError
from harness.planning.environment import machine_host
from harness.store.deletion import begun_acceptances
from harness.store.opening import open_store
from harness.store.store import Store
from reports.analysis import formatting
from reports.formats.console import print_line
from reports.formats.documents import versioned

log = logging.getLogger("scaling_harness")


@dataclass(frozen=True)
class Deletion:
    """Sweeps that go, or have gone."""

    sweeps: tuple[SweepEntry, ...]
    """As they were."""
    baselines: Mapping[str, int]
    """The number of accepted changes that begin with a sweep, by sweep."""
    kept: tuple[KeptSweep, ...] = ()
    """Those that a limit did not keep, but a reason."""
    done: bool = False
    problems: tuple[str, ...] = ()
    """Why something of what was deleted still takes space."""

    @property
    def disk_bytes(self) -> int:
        return sum(entry.disk_bytes for entry in self.sweeps)

    def as_json(self) -> dict[str, Any]:
        fields = {
            "deleted": self.done,
            "sweeps": [{**entry.model_dump(), "disk_bytes": entry.disk_bytes} for entry in self.sweeps],
            "kept": [one.model_dump() for one in self.kept],
            "disk_bytes": self.disk_bytes,
            "problems": list(self.problems),
        }
        return versioned("deletion", fields)

    def print(self, console: Console) -> None:
        for line in self.lines():
            print_line(console, line)

    def lines(self) -> list[str]:
        """What goes, or has gone, one line a sweep, and what they take together."""
        verb = "deleted" if self.done else "would delete"
        lines = [f"{verb} {self._described(entry)}" for entry in self.sweeps]
        lines += [f"kept {one.sweep}: it {one.reason}" for one in self.kept]
        count, size = formatting.counted(len(self.sweeps), "sweep"), formatting.quantity(self.disk_bytes, "B")
        return [*lines, f"{verb} {count}, {size}" if self.sweeps else "nothing to delete"]

    def _described(self, entry: SweepEntry) -> str:
        """``20261127-101500-ab12 (title): 72 trials, 3 files in .runs/20261127-101500-ab12; 12.3 MB``"""
        rows, folder = entry.rows, entry.folder
        parts = [
            formatting.counted(rows.trials, "trial"),
            *([formatting.counted(rows.verdicts, "verdict")] if rows.verdicts else []),
            *([f"{rows.pairs} trials of pairs"] if rows.pairs else []),
            *([f"{formatting.counted(folder.files, 'file')} in {folder.path}"] if folder and folder.files else []),
        ]
        notes = [
            *([f"tagged {', '.join(entry.tags)}"] if entry.tags else []),
            *(["the baseline of an accepted change"] if entry.sweep in self.baselines else []),
            *([f"{', '.join(folder.others)} in its folder stays"] if folder and folder.others else []),
        ]
        title = f" ({entry.title})" if entry.title else ""
        said = "; ".join([", ".join(parts), *notes, formatting.quantity(entry.disk_bytes, "B")])
        return f"{entry.sweep}{title}: {said}"


Confirm = Callable[[Deletion], bool]


def delete_sweeps(names: Sequence[str], store_url: str, confirm: Confirm, *, unfinished: bool = False) -> Deletion:
    """Delete sweeps with all that belongs to them, once it is confirmed.

    Args:
        names: What names them.
        store_url: The store.
        confirm: Takes what goes; nothing does where it returns false.
        unfinished: Whether one that has not ended on another machine goes too.

    Raises:
        StoreError: The store can't be read or written, or a name means none of its sweeps, or several.
        UsageError: A sweep runs, or is protected and was not named.
    """
    with closing(open_store(store_url, create=False, upgrade=True)) as store:
        finish_deletions(store, store_url)
        baselines = begun_acceptances(store.database)
        known = {sweep.id: sweep for sweep in store.known_sweeps()}
        chosen = {store.sweep_id(name): name for name in names}
        for sweep, name in chosen.items():
            check_named(name, known[sweep], baselines)
        entries = [read_entry(store, store_url, known[sweep]) for sweep in chosen]
        for entry in entries:
            if problem := running_problem(entry, _host(store, entry), machine_host(), unfinished=unfinished):
                raise UsageError(f"sweep {entry.sweep} {problem}")
        return _delete(store, store_url, Deletion(tuple(entries), baselines), confirm)


def prune_sweeps(
    store_url: str, keep: int | None, older_than: timedelta | None, *, dry_run: bool, unfinished: bool = False
) -> Deletion:
    """Delete old sweeps, as :func:`harness.archive.selection.choose_prunable` says.

    Args:
        store_url: The store.
        keep: The newest so many stay.
        older_than: Only those that began longer ago go.
        dry_run: Only say which. Nothing is written then.
        unfinished: Whether those that have not ended on another machine go too.

    Raises:
        StoreError: The store can't be read or written.
    """
    with closing(open_store(store_url, create=False, upgrade=not dry_run)) as store:
        if not dry_run:
            finish_deletions(store, store_url)
        known = {sweep.id: sweep for sweep in store.known_sweeps()}
        baselines = begun_acceptances(store.database)
        blocked: dict[str, str] = {}
        for sweep in known.values():
            if sweep.finished_at is None:
                entry = read_entry(store, store_url, sweep)
                if problem := running_problem(entry, _host(store, entry), machine_host(), unfinished=unfinished):
                    blocked[sweep.id] = problem
        ids, kept = choose_prunable(list(known.values()), baselines, datetime.now(UTC), keep, older_than, blocked)
        entries = tuple(read_entry(store, store_url, known[sweep]) for sweep in ids)
        return _delete(store, store_url, Deletion(entries, baselines, tuple(kept)), lambda _: not dry_run)


def _delete(store: Store, store_url: str, deletion: Deletion, confirm: Confirm) -> Deletion:
    if not deletion.sweeps or not confirm(deletion):
        return deletion
    _, problems = remove_sweeps(store, store_url, [entry.sweep for entry in deletion.sweeps])
    return Deletion(deletion.sweeps, deletion.baselines, deletion.kept, done=True, problems=tuple(problems))


def _host(store: Store, entry: SweepEntry) -> str | None:
    """The machine that a sweep began on."""
    try:
        return store.sweep(entry.sweep).environment.host
    except StoreError:
        return None
