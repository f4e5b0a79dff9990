"""Reads Google Benchmark's JSON files (``--benchmark_out_format=json``).

A file is one run (one process) of each of its benchmarks, whose repetitions are no independent samples. Where only
aggregates were reported, the median stands for them.
The format: https://google.github.io/benchmark/user_guide.html#output-formats, json_schema_version 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import Field

from harness.errors import UsageError
from harness.importers import FileRuns, Importer
from harness.importers.documents import Section, parse_time, read_document

REMEDY = "write it again with --benchmark_out=FILE --benchmark_out_format=json"
UNIT_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


class _Entry(Section):
    name: str = Field(min_length=1)
    run_name: str | None = None
    run_type: Literal["iteration", "aggregate"] = "iteration"
    aggregate_name: str | None = None
    real_time: float | None = None
    time_unit: Literal["ns", "us", "ms", "s"] = "ns"
    error_occurred: bool = False
    error_message: str | None = None
    skipped: bool = False

    @property
    def benchmark(self) -> str:
        return self.run_name or self.name

    @property
    def seconds(self) -> float | None:
        """``None`` where it was not measured; a complexity (``BigO``) is no time."""
        time_s = None if self.real_time is None else self.real_time * UNIT_S[self.time_unit]
        return None if time_s is None or not 0 < time_s < float("inf") else time_s


class _File(Section):
    context: dict[str, Any]
    benchmarks: tuple[_Entry, ...] = Field(min_length=1)


def read_google_benchmark(path: Path, night: str | None = None) -> FileRuns:
    """Read the runs in a file. ``night``: their label; default: the day of the file. Raises :class:`UsageError`."""
    source, file = read_document(path, night, _File, "Google Benchmark", REMEDY)
    executable = file.context.get("executable")
    place = {
        "host": file.context.get("host_name"),
        "executable": PurePath(executable).name if isinstance(executable, str) else None,
        "build": file.context.get("library_build_type"),
        "cores": file.context.get("num_cpus"),
    }
    at = parse_time(file.context.get("date")) or source.modified_at
    by_name: dict[str, list[_Entry]] = {}
    for entry in file.benchmarks:
        by_name.setdefault(entry.benchmark, []).append(entry)
    runs, notes = [], []
    for name, entries in by_name.items():
        if failed := next((entry for entry in entries if entry.error_occurred or entry.skipped), None):
            notes.append(f"{path}: '{name}' is left out: {failed.error_message or 'it was skipped'}")
            continue
        seconds, note = _durations(entries)
        if not seconds:
            notes.append(f"{path}: '{name}' is left out: it has no time")
            continue
        notes += [f"{path}: '{name}': {note}"] if note else []
        runs.append(source.run(name, None, seconds, at, place))
    if not runs:
        raise UsageError(f"{path}: no benchmark has a time ({'; '.join(notes)}); {REMEDY}")
    return FileRuns(runs, tuple(notes))


def _durations(entries: Sequence[_Entry]) -> tuple[tuple[float, ...], str]:
    """The repetitions, in seconds; the median where only aggregates were written, with a note."""
    repetitions = tuple(entry.seconds for entry in entries if entry.run_type == "iteration" and entry.seconds)
    if repetitions:
        return repetitions, ""
    medians = tuple(entry.seconds for entry in entries if entry.aggregate_name == "median" and entry.seconds)
    return medians, "its repetitions were not saved, the median stands for them" if medians else ""


IMPORTER = Importer(
    "Google Benchmark's JSON",
    read_google_benchmark,
    signature=re.compile(rb'\A\s*\{\s*"context"\s*:\s*\{'),
)
