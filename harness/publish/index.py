"""``report --index``: a page over many stored sweeps, and a report for each that has none in the folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.names import UnsafeName, path_inside
from bench.plugins.registry import load_plugins
from harness.errors import StoreError, UsageError
from harness.output_files import OutputFile, check_outputs, write_output
from harness.reporting import report
from harness.reporting.night import INDEX_STEM, night_of, report_name
from harness.reporting.stored_trials import MAX_WHOLE_TRIALS, read_trials
from harness.store.left_out import log_left_out
from harness.store.location import store_label, store_path
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from harness.store.summaries import keep_nights, read_night_cells, read_nights
from harness.store.sweep_names import KnownSweep
from reports.analysis.comparison import Night, latest_comparison
from reports.analysis.findings import analyse_cells
from reports.analysis.trial_measures import overhead_of
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.page.elements import Page
from reports.page.html import SIGNATURE, render
from reports.page.index_page import make_index

INDEX = f"{INDEX_STEM}.html"
MAX_NIGHTS = 120
"""The newest sweeps are compared and drawn; older ones are in the table."""


@dataclass(frozen=True)
class IndexResult:
    """The index, and the sweeps whose report was written; the others had one."""

    page: Page
    path: Path
    sweeps: tuple[str, ...]
    written: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        sweeps = [
            {"sweep": name, "report": str(self.path.parent / report_name(name)), "written": name in self.written}
            for name in self.sweeps
        ]
        return versioned("index", {"index": str(self.path), "sweeps": sweeps})

    def print(self, console: Console) -> None:
        for line in (*self.page.answers, *self.page.warnings):
            print_line(console, line)
        kept = len(self.sweeps) - len(self.written)
        print_line(console, f"reports: {len(self.written)} written, {kept} kept")
        print_line(console, f"index: {self.path}")


def write_index(names: Sequence[str], store_url: str, folder: Path) -> IndexResult:
    """Write an index of the named sweeps, or of every finished one, to a folder.

    Sweeps whose numbers the store keeps, and which have a report in the folder, are not read again.

    Raises:
        OutputError: A page can't be written.
        StoreError: The store can't be read.
        UsageError: There is no such sweep.
    """
    folder = Path(os.path.realpath(folder))
    with closing(open_store(store_url, create=False)) as store:
        chosen, unfinished = _choose(store, names)
        if not chosen:
            message = f"store {store_label(store_url)} holds no finished sweep"
            raise UsageError(f"{message}; run `python -m harness sweep`, or name one")
        index, *pages = outputs = [_output(folder, name) for name in (INDEX, *(report_name(one.id) for one in chosen))]
        check_outputs(outputs, store_path(store_url))
        nights, read, written = read_nights(store), [], []
        for sweep, output in zip(chosen, pages, strict=True):
            current = _is_current(output.path, sweep)
            if current and sweep.id in nights:
                continue
            nights.pop(sweep.id, None)
            info = _read_info(store, sweep.id)
            if info is None:
                continue
            night, trials = _read_sweep(store, info, None if current else output)
            nights[sweep.id] = night
            read.append((night, trials))
            written += [] if current else [sweep.id]
        readable = [nights[sweep.id] for sweep in chosen if sweep.id in nights]
        if not readable:
            raise UsageError(f"store {store_label(store_url)} holds no finished sweep that can be read; name another")
        shown, older = _split(store, readable)
    keep_nights(store_url, read)
    page = make_index(shown, unfinished, older)
    write_output(index, render(page))
    return IndexResult(page, index.path, tuple(night.sweep for night in readable), tuple(written))


def _read_info(store: Store, sweep: str) -> SweepInfo | None:
    """``None`` of a sweep whose record can't be read, which is left out."""
    try:
        return store.read_sweep(sweep)
    except StoreError as problem:
        log_left_out(store.database.label, f"sweep {sweep}", str(problem))
        return None


def _split(store: Store, nights: Sequence[Night]) -> tuple[list[Night], list[Night]]:
    """The nights that the page compares and draws, with their cells, and the older ones; each the oldest first.

    The page compares the newest :data:`MAX_NIGHTS`, and the oldest one of the same machine and versions.
    """
    newest, older = list(nights[-MAX_NIGHTS:]), list(nights[:-MAX_NIGHTS])
    newest = _with_cells(store, newest)
    last = latest_comparison(newest) if older else None
    place = (last.after if last else newest[-1]).place
    oldest = next((night for night in older if night.place == place), None)
    if oldest is None:
        return newest, older
    return [*_with_cells(store, [oldest]), *newest], [night for night in older if night is not oldest]


def _with_cells(store: Store, nights: Sequence[Night]) -> list[Night]:
    """Those that were read from trials have them; those whose cells are damaged are read from trials."""
    kept = {night.sweep: night for night in read_night_cells(store, [night for night in nights if not night.cells])}
    return [
        night
        if night.cells
        else kept[night.sweep]
        if night.sweep in kept
        else _read_sweep(store, store.read_sweep(night.sweep), None)[0]
        for night in nights
    ]


def _output(folder: Path, name: str) -> OutputFile:
    try:
        return OutputFile("--index", path_inside(folder, name), SIGNATURE, creates_folder=True)
    except UnsafeName as problem:
        raise UsageError(f"--index {folder}: {problem}") from None


def _choose(store: Store, names: Sequence[str]) -> tuple[list[KnownSweep], list[str]]:
    """The sweeps to index, the oldest first, and those left out: unfinished, and not named."""
    known = store.known_sweeps()
    named = {store.sweep(name).id for name in names}
    if named:
        return [sweep for sweep in known if sweep.id in named], []
    finished = [sweep for sweep in known if sweep.finished_at is not None]
    return finished, [sweep.id for sweep in known if sweep.finished_at is None]


def _read_sweep(store: Store, info: SweepInfo, output: OutputFile | None) -> tuple[Night, int]:
    """The numbers of a sweep for the index, made of its trials, and their number; ``output``: where its report goes."""
    backends, workloads, _ = load_plugins()
    stored = read_trials(store, info, MAX_WHOLE_TRIALS if output else 0)
    cells = report.sweep_cells(info, stored.summaries, backends, workloads)
    if output is not None:
        report.write_page(info, stored, analyse_cells(cells), output)
    return night_of(info, cells, overhead_of(stored.overheads)), stored.count


def _is_current(page: Path, sweep: KnownSweep) -> bool:
    """Whether a report was written after its sweep had finished; such a report is kept."""
    if sweep.finished_at is None or not page.is_file():
        return False
    return page.stat().st_mtime >= datetime.fromisoformat(sweep.finished_at).timestamp()
