"""``export``: write stored sweeps to a file or to standard output, in a format that other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from rich.console import Console

from bench.core.text import printable
from harness.errors import UsageError, suggest_name
from harness.output_files import OutputFile, check_outputs, named_file, write_output
from harness.publish.export_runs import export_runs, read_sweeps
from harness.reporting.report import sweep_facts
from harness.store.ledger import IngestedRun
from harness.store.location import store_path
from harness.store.opening import open_store
from harness.store.sweep_names import is_exact
from harness.store.tables import runs_table
from harness.streams import results
from reports.formats.cell_records import CellRecord, cell_record
from reports.formats.console import print_line
from reports.formats.exports import CannotExport, Export, Format, format_names, load_format
from reports.formats.exports.pytest_benchmark import render_night
from reports.formats.trial_rows import SweepFacts, SweepTable, TrialRow, rows_of_cell

DEFAULT_FORMAT = "csv"
INGESTED_FORMAT = "pytest-benchmark"


def export(sweeps: Sequence[str], store_url: str, wanted: str | None, out: str | None, stderr_console: Console) -> None:
    """Write sweeps, or one night of ingested runs.

    Args:
        sweeps: Ids, or the name of a night; default: the latest sweep.
        store_url: The store.
        wanted: The name of a format; default: by the suffix of ``out``, else CSV.
        out: The file, folder, or place of a tracker; ``None``: standard output, or a tracker's own place.
        stderr_console: For what was left out, and notes.

    Raises:
        HarnessError: Before anything is written.
    """
    name = choose_format(wanted, out)
    output_format = load_format(name)
    if not isinstance(output_format, Format):
        for line in export_runs(output_format, name, store_url, sweeps, out):
            print_line(stderr_console, line)
        return
    file = None if out is None else named_file("--out", out)
    _export_file(output_format, name, store_url, sweeps, file, stderr_console)


def _export_file(
    output_format: Format,
    name: str,
    store_url: str,
    sweeps: Sequence[str],
    out: Path | None,
    stderr_console: Console,
) -> None:
    if out is None and not output_format.text:
        raise UsageError(f"--format {name}: is not text; name a file with --out")
    output = None if out is None else OutputFile("--out", out, output_format.signature)
    if output is not None:
        check_outputs([output], store_path(store_url))
    runs = _ingested_runs(store_url, sweeps)
    if runs:
        exported, what = export_ingested(runs, name), f"{len(runs)} runs of {runs[0].night}"
    else:
        table = read_table(store_url, sweeps, cells=output_format.needs_cells)
        exported = _rendered(output_format, table, name)
        rows = f"{len(table.cells)} cells" if output_format.needs_cells else f"{len(table.rows)} rows"
        what = f"{rows} of {', '.join(sweep.id for sweep in table.sweeps)}"
    if output is not None:
        write_output(output, exported.content)
    else:
        assert isinstance(exported.content, str)
        print_export(exported.content)
    for line in exported.left_out:
        print_line(stderr_console, f"left out: {line}", "yellow")
    for line in exported.notes:
        print_line(stderr_console, f"note: {line}")
    if out is not None:
        print_line(stderr_console, f"{name}: {what} → {out}")


def _rendered(output_format: Format, table: SweepTable, name: str) -> Export:
    try:
        return output_format.render(table)
    except CannotExport as problem:
        raise UsageError(f"--format {name}: {problem}") from None


def choose_format(wanted: str | None, out: str | None) -> str:
    """The named format; else the only one with the file's suffix; else CSV. Raises :class:`UsageError`."""
    known = format_names()
    if wanted is not None:
        if wanted not in known:
            raise UsageError(f"--format {wanted}: unknown format{suggest_name(wanted, known)}")
        return wanted
    suffix = Path(out).suffix.lower() if out else ""
    matching = [name for name in known if suffix in getattr(load_format(name), "suffixes", ())]
    return matching[0] if len(matching) == 1 else DEFAULT_FORMAT


def read_table(store_url: str, wanted: Sequence[str], *, cells: bool = False) -> SweepTable:
    """The rows of the named sweeps in that order, each sweep once; default: the latest.

    Args:
        store_url: The store.
        wanted: Ids of sweeps.
        cells: Whether the table holds the cells too.
    """
    sweeps: list[SweepFacts] = []
    rows: list[TrialRow] = []
    records: list[CellRecord] = []
    for sweep in read_sweeps(store_url, wanted):
        facts = sweep_facts(sweep.info)
        sweeps.append(facts)
        rows += (row for cell, trials in sweep.cells_with_trials() for row in rows_of_cell(facts, cell, trials))
        if cells:
            records += [cell_record(facts.id, cell) for cell in sweep.cells]
    return SweepTable(sweeps=tuple(sweeps), rows=tuple(rows), cells=tuple(records))


def _ingested_runs(store_url: str, wanted: Sequence[str]) -> Sequence[IngestedRun]:
    """The ingested runs of a night, where its name is the only one given and names no sweep; else none. A night comes
    before a sweep whose id only begins so."""
    if len(wanted) != 1:
        return ()
    with closing(open_store(store_url, create=False)) as store:
        if is_exact(wanted[0], store.known_sweeps()) or not store.database.has_table(runs_table):
            return ()
        return store.ledger.runs(wanted)


def export_ingested(runs: Sequence[IngestedRun], name: str) -> Export:
    """A night of ingested runs in the format it came in. Raises :class:`UsageError`."""
    night = runs[0].night
    if name != INGESTED_FORMAT:
        raise UsageError(f"--format {name}: cannot hold ingested runs, as {night} is; use {INGESTED_FORMAT}")
    origins = {(run.commit, run.changed_files, tuple(sorted(run.place.items()))) for run in runs}
    if len(origins) > 1:
        raise UsageError(
            f"{night}: its runs are of {len(origins)} commits or machines, and a file holds those of one; "
            "ingest them as nights of their own with --night"
        )
    benchmarks: dict[str, dict[str, float]] = {}
    for run in runs:
        benchmarks.setdefault(run.benchmark, {})[run.run] = median(run.seconds)
    first, at = runs[0], min(run.at for run in runs)
    return render_night(benchmarks, first.place, first.commit, at, changed_files=first.changed_files)


def print_export(content: str) -> None:
    """Write a text to standard output. A file keeps every character; a terminal would obey some."""
    results().write(printable(content, keep="\r\n\t") if results().isatty() else content)
