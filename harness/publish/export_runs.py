"""Exports of sweep after sweep: a folder of files, or the runs of an experiment tracker."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.core.records import Trial
from bench.host.paths import from_home
from bench.host.secrets import mask_secrets
from bench.plugins.registry import load_plugins
from harness.errors import UsageError
from harness.output_files import OutputFile, check_outputs, same_file, write_output
from harness.reporting.report import render_page, sweep_cells, sweep_facts
from harness.reporting.stored_trials import StoredTrials, read_trials
from harness.store.database import chunks
from harness.store.location import store_path
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from harness.store.summaries import CASES_AT_ONCE
from reports.analysis.cells import Cell
from reports.analysis.findings import analyse_cells
from reports.analysis.trial_measures import measure_trial
from reports.formats.cell_records import cell_record, trial_records
from reports.formats.exports import AnyFormat, CannotExport, FolderFormat, Tracker
from reports.formats.sweep_records import SweepRecord


@dataclass(frozen=True)
class StoredSweep:
    """A sweep with its cells. Its trials are read as they are needed, while the store is open."""

    info: SweepInfo
    stored: StoredTrials
    cells: tuple[Cell, ...]
    store: Store

    def cells_with_trials(self) -> Iterator[tuple[Cell, Sequence[Trial]]]:
        """Each cell with its trials; those of a few cells are in memory together."""
        for some in chunks(self.cells, CASES_AT_ONCE):
            trials = self._trials([cell.case.key for cell in some])
            yield from (with_trials(cell, trials.get(cell.case.key, ())) for cell in some)

    def cell_with_trials(self, cell: Cell) -> tuple[Cell, Sequence[Trial]]:
        """One cell with its trials."""
        return with_trials(cell, self._trials([cell.case.key]).get(cell.case.key, ()))

    def _trials(self, keys: Sequence[str]) -> Mapping[str, Sequence[Trial]]:
        whole = {key: self._whole[key] for key in keys if key in self._whole}
        unread = [key for key in keys if key in self.stored.summaries and key not in whole]
        return whole | self.store.trials_of_cases(self.info.id, unread) if unread else whole

    @cached_property
    def _whole(self) -> dict[str, list[Trial]]:
        by_key: dict[str, list[Trial]] = {}
        for trial in self.stored.first:
            by_key.setdefault(trial.case.key, []).append(trial)
        return by_key


def with_trials(cell: Cell, trials: Sequence[Trial]) -> tuple[Cell, Sequence[Trial]]:
    """The cell with all numbers of its trials (pure): of large sweeps their usage was dropped."""
    if not cell.measures:
        return cell, trials
    measures = tuple(numbers for trial in trials if (numbers := measure_trial(trial)) is not None)
    return cell.model_copy(update={"measures": measures}), trials


def read_sweeps(store_url: str, wanted: Sequence[str]) -> Iterator[StoredSweep]:
    """The named sweeps in that order, each once; default: the latest. One is read after the other.

    Raises:
        StoreError: Before the first is read, if there is no such sweep.
    """
    backends, workloads, _ = load_plugins()
    with closing(open_store(store_url, create=False)) as store:
        infos = {info.id: info for info in map(store.sweep, wanted or ["latest"])}
        for info in infos.values():
            stored = read_trials(store, info)
            yield StoredSweep(info, stored, sweep_cells(info, stored.summaries, backends, workloads), store)


def export_runs(
    output_format: AnyFormat, name: str, store_url: str, sweeps: Sequence[str], out: str | None
) -> Iterator[str]:
    """Write sweeps to a folder or to a tracker; yields lines for people.

    Args:
        output_format: The format.
        name: Its name.
        store_url: The store.
        sweeps: Ids; default: the latest sweep.
        out: The folder, or the place of the tracker.

    Raises:
        HarnessError: What can be known beforehand, before anything is written.
    """
    written: list[str] = []
    records = _records(store_url, sweeps, written)
    try:
        if isinstance(output_format, FolderFormat):
            if out is None:
                raise UsageError(f"--format {name}: writes a folder; name it with --out")
            count = _write_folder(output_format, records, from_home(out), store_url)
            yield f"{name}: {count} {'file' if count == 1 else 'files'} of {', '.join(written)} → {out}"
        elif isinstance(output_format, Tracker):
            place = out or os.environ.get(output_format.variable or "")
            if not place:
                or_variable = f", or set {output_format.variable}" if output_format.variable else ""
                raise UsageError(f"--format {name}: name {output_format.out} with --out{or_variable}")
            _check_not_the_store(place, store_url)
            tracked = output_format.write(records, place)
            yield from (f"note: {mask_secrets(note)}" for note in tracked.notes)
            runs = "run" if tracked.written == 1 else "runs"
            counts = f"{tracked.written} {runs} written, {tracked.unchanged} unchanged"
            yield f"{name}: {counts}, of {', '.join(written)} → {mask_secrets(place)}"
        else:
            raise UsageError(f"--format {name}: is of no known kind of format; update its plugin")
    except CannotExport as problem:
        raise UsageError(f"--format {name}: {mask_secrets(str(problem))}") from None


def _check_not_the_store(place: str, store_url: str) -> None:
    """A tracker would add its own tables to the results store. Raises :class:`UsageError`."""
    store = store_path(store_url)
    database = re.sub(r"^\w+(\+\w+)?:/*(?=/|\w)", "", place).partition("?")[0]
    named = [Path(database), Path("/", database)]
    if place == store_url or (store is not None and any(same_file(path, store) for path in named)):
        raise UsageError(f"--out {mask_secrets(place)}: is the results store; name another place")


def _write_folder(output_format: FolderFormat, records: Iterable[SweepRecord], folder: Path, store_url: str) -> int:
    """Write the files of a format into a folder, which is created; other files there stay. Returns their number."""
    count = 0
    for file in output_format.files(records):
        if file.path.is_absolute() or ".." in file.path.parts:
            raise CannotExport(f"its file {file.path} would be outside of the folder; correct its plugin")
        output = OutputFile("--out", folder / file.path, output_format.signature, creates_folder=True)
        check_outputs([output], store_path(store_url))
        write_output(output, file.content)
        count += 1
    return count


def _records(store_url: str, wanted: Sequence[str], read: list[str]) -> Iterator[SweepRecord]:
    """The named sweeps as records, one after the other; ``read`` takes their ids."""
    for sweep in read_sweeps(store_url, wanted):
        read.append(sweep.info.id)
        yield _record(sweep)


def _record(sweep: StoredSweep) -> SweepRecord:
    info, cells = sweep.info, sweep.cells
    cells_by_key = {cell.case.key: cell for cell in cells}
    return SweepRecord(
        facts=sweep_facts(info),
        title=info.shown_title,
        cells=tuple(cell_record(info.id, cell) for cell in cells),
        trials=lambda record: trial_records(*sweep.cell_with_trials(cells_by_key[record.case.key])),
        page=lambda: render_page(info, sweep.stored, analyse_cells(cells)),
        note=info.note,
        tags=info.tags,
    )
