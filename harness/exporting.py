"""``export``: stored sweeps as a file, or as text on standard output, in a format that other tools read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.registry import survey
from harness.errors import UsageError, nearest
from harness.opening import open_store
from harness.report import cells_of, facts_of, write_whole
from harness.store import Store, SweepInfo
from reports.exports import CannotExport, Export, format_names, load_format
from reports.trial_rows import SweepTable, TrialRow, rows_of

DEFAULT_FORMAT = "csv"


def export(sweeps: Sequence[str], store_place: str, wanted: str | None, out: Path | None, people: Console) -> None:
    """Write the sweeps to ``out``, or to standard output. Raises :class:`UsageError` before anything is written."""
    name = choose_format(wanted, out)
    chosen = load_format(name)
    if out is None and not chosen.text:
        raise UsageError(f"--format {name}: is not text; name a file with --out")
    if out is not None:
        _check_ordinary(out)
    table = read_table(store_place, sweeps)
    try:
        made = chosen.render(table)
    except CannotExport as problem:
        raise UsageError(f"--format {name}: {problem}") from None
    _deliver(made, out)
    for line in made.left_out:
        people.print(f"left out: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        said = f"{name}: {len(table.rows)} rows of {', '.join(sweep.id for sweep in table.sweeps)}"
        people.print(f"{said} → {out}", markup=False, highlight=False, soft_wrap=True)


def _check_ordinary(out: Path) -> None:
    """A folder, a pipe or a device would be replaced by the file. Raises :class:`UsageError`."""
    try:
        ordinary = out.is_file() or not out.exists()
    except OSError as problem:
        raise UsageError(f"--out {out}: cannot be looked at ({problem.strerror}); name another") from None
    if not ordinary:
        raise UsageError(f"--out {out}: is not an ordinary file; name another, or leave --out out")


def choose_format(wanted: str | None, out: Path | None) -> str:
    """The one asked for; else the only one that has the file's suffix; else CSV. Raises :class:`UsageError`."""
    known = format_names()
    if wanted is not None:
        if wanted not in known:
            raise UsageError(f"--format {wanted}: unknown format{nearest(wanted, known)}")
        return wanted
    suffix = out.suffix.lower() if out else ""
    fitting = [name for name in known if suffix in load_format(name).suffixes]
    return fitting[0] if len(fitting) == 1 else DEFAULT_FORMAT


def read_table(store_place: str, wanted: Sequence[str]) -> SweepTable:
    """The rows of the wanted sweeps, in that order, each sweep once; of the latest where none is named."""
    store = open_store(store_place, create=False)
    try:
        infos = {info.id: info for info in map(store.sweep, wanted or ["latest"])}
        rows = tuple(row for info in infos.values() for row in _rows(store, info))
    finally:
        store.close()
    return SweepTable(sweeps=tuple(facts_of(info) for info in infos.values()), rows=rows)


def _rows(store: Store, info: SweepInfo) -> Sequence[TrialRow]:
    backends, workloads, _ = survey()
    trials = store.trials(info.id)
    return tuple(rows_of(facts_of(info), cells_of(info, trials, backends, workloads), trials))


def _deliver(made: Export, out: Path | None) -> None:
    if out is not None:
        write_whole(out, made.content)
        return
    assert isinstance(made.content, str)
    try:
        sys.stdout.write(made.content)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as `head` does. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
