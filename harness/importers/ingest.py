"""Stores the runs in other tools' files: they become series beside those of sweeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.text import printable
from bench.plugins.registry import UnknownPlugin
from harness.errors import UsageError, suggest_name
from harness.importers import IMPORTERS, FileRuns
from harness.importers.detection import find_importer
from harness.importers.log_lines import parse_pattern, read_log
from harness.importers.pytest_benchmark import MEDIAN_ONLY
from harness.planning.environment import MACHINE_VARIABLE
from harness.store.dates import date_problem, parse_moment
from harness.store.ledger import IngestedRun, Ledger
from harness.store.opening import open_store
from reports.formats.console import print_line
from reports.formats.documents import versioned

ReadFile = Callable[[Path, str | None], Sequence[IngestedRun] | FileRuns]


@dataclass(frozen=True)
class IngestResult:
    """What was ingested."""

    nights: dict[str, dict[str, int]]
    """By night: number of ``benchmarks`` in the files, of runs ``added``, and of runs ``known`` before."""
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return versioned("ingest", {"nights": self.nights, "notes": list(self.notes)})

    def print(self, console: Console) -> None:
        for night, counts in self.nights.items():
            known = f", {counts['known']} known before" if counts["known"] else ""
            line = f"{night}: {counts['benchmarks']} benchmarks, {counts['added']} runs added{known}"
            print_line(console, line)
        for note in self.notes:
            print_line(console, f"note: {note}", "yellow")


def ingest(
    files: Sequence[Path], store_url: str, night: str | None, importer: str | None = None, pattern: str | None = None
) -> IngestResult:
    """Store the runs of all files, or of none.

    Args:
        files: Files of one tool, or of several.
        store_url: A SQLite file or a database URL; made where it is absent.
        night: The label of the runs' night; ``None``: the day of each file (UTC). A label that is a date stands for a
            file's own date where that cannot be true.
        importer: The name of the importer that reads them; ``None``: each file's own, by its beginning.
        pattern: A regular expression for the lines of training logs, instead of an importer.

    Raises:
        UsageError: Before anything is written.
    """
    if night is not None and not printable(night).strip():
        raise UsageError("--night: is empty; name the night, or leave --night out")
    if night is not None and night != printable(night):
        raise UsageError(f"--night {night}: holds a character that is not shown; choose another name")
    if importer is not None and pattern is not None:
        raise UsageError("--pattern: reads logs without an importer; leave --from out")
    read_pattern = None if pattern is None else partial(read_log, pattern=parse_pattern(pattern))
    read: dict[Path, FileRuns] = {}
    for path in dict.fromkeys(files):
        read_file: ReadFile = read_pattern or _reader(importer or find_importer(path))
        found = read_file(path, night)
        read[path] = found if isinstance(found, FileRuns) else FileRuns(found)
    runs = [_dated(run, path, night) for path, some in read.items() for run in some.runs]
    notes = tuple(note for some in read.values() for note in some.notes)
    machine = os.environ.get(MACHINE_VARIABLE)
    named = [run.model_copy(update={"place": {**run.place, "host": machine}}) for run in runs] if machine else runs
    with closing(open_store(store_url, create=True)) as store:
        result = _store_runs(store.ledger, named)
    return replace(result, notes=(*notes, *result.notes, *_renamed_notes(runs, machine)))


def _reader(importer: str) -> ReadFile:
    try:
        return IMPORTERS.load(importer).read
    except UnknownPlugin as problem:
        raise UsageError(f"--from {importer}: unknown importer{suggest_name(importer, problem.known)}") from None


def _dated(run: IngestedRun, path: Path, night: str | None) -> IngestedRun:
    """The run, on the day that its night's label names where its own date cannot be true."""
    problem = date_problem(run.at)
    if not problem:
        return run
    if night is None or date_problem(night):
        raise UsageError(f"{path}: {problem}; name the day of its night: --night YYYY-MM-DD")
    moment = parse_moment(night)
    assert moment is not None
    return run.model_copy(update={"at": moment.isoformat()})


def _store_runs(ledger: Ledger, runs: Sequence[IngestedRun]) -> IngestResult:
    misdated = [stored for stored, at in ledger.ingested_dates().items() if date_problem(at)]
    ledger.remove_runs(misdated, {(run.benchmark, run.run) for run in runs})
    nights: dict[str, dict[str, int]] = {}
    for night in dict.fromkeys(run.night for run in runs):
        night_runs = [run for run in runs if run.night == night]
        added = sum(map(ledger.add_run, night_runs))
        names = len({run.benchmark for run in night_runs})
        nights[night] = {"benchmarks": names, "added": added, "known": len(night_runs) - added}
    return IngestResult(nights, (*_median_only_notes(runs), *_mixed_commit_notes(ledger.runs(list(nights)))))


def _median_only_notes(runs: Iterable[IngestedRun]) -> list[str]:
    median_only = dict.fromkeys(run.source for run in runs if run.source.endswith(MEDIAN_ONLY))
    return [f"{source}: its rounds were not saved" for source in median_only]


def _renamed_notes(runs: Iterable[IngestedRun], machine: str | None) -> list[str]:
    """Files of several machines that now have one name are worth a word."""
    hosts = sorted({run.place.get("host", "a host without a name") for run in runs} - {machine or ""})
    if not machine or len(hosts) < 2:
        return []
    return [f"{MACHINE_VARIABLE}={machine} names {', '.join(hosts)}: ingest files of other machines without it"]


def _mixed_commit_notes(runs: Iterable[IngestedRun]) -> list[str]:
    commits: dict[str, set[str]] = {}
    for run in runs:
        commits.setdefault(run.night, set()).add(run.commit or "no commit")
    return [
        f"night {night} holds runs of {len(ids)} commits ({', '.join(sorted(ids))}): separate them by --night"
        for night, ids in commits.items()
        if len(ids) > 1
    ]
