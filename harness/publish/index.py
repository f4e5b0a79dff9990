"""``report --index``: a page over many stored sweeps, and a report for each that has none in the folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.names import UnsafeName, file_stem, path_inside
from bench.plugins.registry import load_plugins
from harness.errors import UsageError
from harness.output_files import OutputFile, check_outputs, write_output
from harness.store.location import store_label, store_path
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from harness.sweep import report
from reports.analysis.cells import Cell
from reports.analysis.comparison import Night, night_cell
from reports.analysis.findings import analyse_cells
from reports.analysis.rank_resources import join_variables, variable_settings
from reports.analysis.stats import Estimate
from reports.analysis.trial_measures import overhead_of
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.page.elements import Page
from reports.page.html import SIGNATURE, render
from reports.page.index_page import make_index

INDEX = "index.html"


@dataclass(frozen=True)
class IndexResult:
    """The index, and the sweeps whose report was written; the others had one."""

    page: Page
    path: Path
    sweeps: tuple[str, ...]
    written: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        sweeps = [
            {"sweep": name, "report": str(self.path.parent / _page_of(name)), "written": name in self.written}
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

    Raises:
        OutputError: A page can't be written.
        StoreError: The store can't be read.
        UsageError: There is no such sweep.
    """
    folder = Path(os.path.realpath(folder))
    store = open_store(store_url, create=False)
    chosen, unfinished = _choose(store, names)
    if not chosen:
        message = f"store {store_label(store_url)} holds no finished sweep"
        raise UsageError(f"{message}; run `python -m harness sweep`, or name one")
    index, *pages = outputs = [_output(folder, name) for name in (INDEX, *map(_page_of, chosen))]
    check_outputs(outputs, store_path(store_url))
    nights, written = [], []
    for name, output in zip(chosen, pages, strict=True):
        night, rewritten = _add_sweep(store, name, output)
        nights.append(night)
        written += [name] if rewritten else []
    store.close()
    page = make_index(nights, unfinished)
    write_output(index, render(page))
    return IndexResult(page, index.path, tuple(chosen), tuple(written))


def _output(folder: Path, name: str) -> OutputFile:
    try:
        return OutputFile("--index", path_inside(folder, name), SIGNATURE, creates_folder=True)
    except UnsafeName as problem:
        raise UsageError(f"--index {folder}: {problem}") from None


def _choose(store: Store, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sweeps to index, the oldest first, and those left out: unfinished, and not named."""
    named = {store.sweep(name).id for name in names}
    if named:
        return [name for name in store.sweep_ids() if name in named], []
    finished = {info.id: info.finished_at is not None for info in store.sweeps()}
    return [name for name in finished if finished[name]], [name for name in finished if not finished[name]]


def _add_sweep(store: Store, name: str, output: OutputFile) -> tuple[Night, bool]:
    """The numbers of a sweep for the index, and whether its report was written.

    Trials are large, and are released before those of the next sweep are read.
    """
    backends, workloads, _ = load_plugins()
    info, trials = store.sweep(name), store.trials(name)
    cells, cost = report.sweep_cells(info, trials, backends, workloads), overhead_of(trials)
    rewritten = not _is_current(output.path, info)
    if rewritten:
        report.write_page(info, trials, analyse_cells(cells), output)
    return _night(info, cells, cost), rewritten


def _page_of(sweep: str) -> str:
    return f"{file_stem(sweep, reserved=(Path(INDEX).stem,))}.html"


def _is_current(page: Path, info: SweepInfo) -> bool:
    """Whether a report was written after its sweep had finished; such a report is kept."""
    if info.finished_at is None or not page.is_file():
        return False
    return page.stat().st_mtime >= datetime.fromisoformat(info.finished_at).timestamp()


def _inherited_variables(cell: Cell) -> dict[str, str] | None:
    """Those that its case does not give: what it gives is part of its key."""
    if cell.variables is None:
        return None
    return {name: value for name, value in cell.variables.items() if name not in cell.case.env}


def _night(info: SweepInfo, cells: Sequence[Cell], cost: Estimate | None) -> Night:
    environment = info.environment
    changed = " with changed files" if environment.changed_files else ""
    return Night(
        sweep=info.id,
        href=_page_of(info.id),
        started_at=info.started_at,
        finished=info.finished_at is not None,
        suite=info.suite.name,
        commit=f"{environment.commit}{changed}" if environment.commit else "unknown",
        sources=info.sources.digest if info.sources else None,
        machine=environment.machine,
        place=environment.place | variable_settings(join_variables(map(_inherited_variables, cells))),
        cells=tuple(map(night_cell, cells)),
        own_cost=cost,
    )
