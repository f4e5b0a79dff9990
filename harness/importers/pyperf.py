"""Reads pyperf's JSON files, of version 1.0 of the format.

pyperf starts a fresh process for each run; the values of one process are no independent samples of the benchmark.
Runs without values calibrate the number of loops. Metadata that all runs, or all benchmarks, share are the
benchmark's or the suite's: of a file with one benchmark even its name.
The format: https://pyperf.readthedocs.io/en/latest/api.html#json-format.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harness.errors import UsageError
from harness.importers import FileRuns, Importer
from harness.importers.documents import Section, parse_time, read_document

REMEDY = "write it again with `python benchmark.py -o FILE` of pyperf"
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PLACE = {
    "hostname": "host",
    "cpu_model_name": "cpu",
    "python_implementation": "implementation",
    "python_version": "python",
    "platform": "platform",
}
"""pyperf's metadata that says where a number was measured, and our names of it."""
SECONDS = "second"


class _Run(Section):
    metadata: dict[str, Any] = Field(default={})
    values: tuple[Seconds, ...] = ()


class _Benchmark(Section):
    metadata: dict[str, Any] = Field(default={})
    runs: tuple[_Run, ...] = Field(min_length=1)


class _File(Section):
    version: str
    metadata: dict[str, Any] = Field(default={})
    benchmarks: tuple[_Benchmark, ...] = Field(min_length=1)


def read_pyperf(path: Path, night: str | None = None) -> FileRuns:
    """Read the runs in a file. ``night``: their label; default: the day of each run. Raises :class:`UsageError`."""
    source, file = read_document(path, night, _File, "pyperf", REMEDY)
    if file.version != "1.0":
        raise UsageError(f"{path}: version {file.version} of pyperf's format is not read; {REMEDY}")
    runs, notes = [], []
    for benchmark in file.benchmarks:
        shared = {**file.metadata, **benchmark.metadata}
        name = str(shared.get("name", path.stem))
        if (unit := shared.get("unit", SECONDS)) != SECONDS:
            notes.append(f"{path}: '{name}' is left out: its unit is {unit}, and only durations are judged")
            continue
        for number, run in enumerate(run for run in benchmark.runs if run.values):
            known = {**shared, **run.metadata}
            place = {ours: known.get(theirs) for theirs, ours in PLACE.items()}
            at = parse_time(known.get("date")) or source.modified_at
            runs.append(source.run(name, number, run.values, at, place))
    if not runs:
        raise UsageError(f"{path}: holds no duration of any benchmark; {'; '.join(notes) or REMEDY}")
    return FileRuns(runs, tuple(notes))


IMPORTER = Importer(
    "pyperf's JSON",
    read_pyperf,
    signature=re.compile(rb'\A\s*\{\s*"benchmarks"\s*:\s*\[\s*\{\s*"(metadata|runs)"\s*:'),
)
