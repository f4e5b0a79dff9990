"""Reads the result files of asv (airspeed velocity): ``results/MACHINE/COMMIT-ENVIRONMENT.json``.

A file is one run of each of its benchmarks at a commit, whose samples are no independent ones. Without
``--record-samples`` a benchmark's result, the median of its samples, stands for them. Of a benchmark with parameters
each combination is a series. Only timings are read: ``benchmarks.json`` beside the machines says which those are, and
without it asv's prefix ``time_``.
The format: https://asv.readthedocs.io/en/stable/dev.html#benchmark-suite-layout-and-file-formats, version 2.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.errors import UsageError
from harness.importers import FileRuns, Importer
from harness.importers.documents import Section, read_document

REMEDY = "name a file that `asv run` wrote below results/MACHINE/"
VERSION = 2
TIMING = "time_"
PLACE = {"machine": "host", "cpu": "cpu", "os": "os", "arch": "arch", "ram": "memory", "num_cpu": "cores"}
"""asv's parameters of a machine, and our names of them."""


class _File(Section):
    version: int
    commit_hash: str = Field(min_length=1)
    env_name: str = ""
    date: int
    """Of the commit, in milliseconds since the Unix epoch."""
    params: dict[str, Any] = Field(default={})
    requirements: dict[str, Any] = Field(default={})
    result_columns: tuple[str, ...]
    results: dict[str, list[Any] | None]


def read_asv(path: Path, night: str | None = None) -> FileRuns:
    """Read the runs in a file. ``night``: their label; default: the day that they ran. Raises :class:`UsageError`."""
    source, file = read_document(path, night, _File, "asv", REMEDY)
    if file.version != VERSION:
        raise UsageError(f"{path}: version {file.version} of asv's results is not read; update them by `asv update`")
    place = {ours: file.params.get(theirs) for theirs, ours in PLACE.items()}
    place |= {"environment": _without_paths(file.env_name)}
    types = _benchmark_types(path)
    runs, other, failed = [], [], []
    for name, values in file.results.items():
        if not _is_timing(name, types):
            other.append(name)
            continue
        columns = dict(zip(file.result_columns, values or (), strict=False))
        at = datetime.fromtimestamp(int(columns.get("started_at") or file.date) / 1000, UTC)
        for title, seconds in _combinations(name, columns):
            if seconds:
                runs.append(source.run(title, None, seconds, at, place, commit=file.commit_hash))
            else:
                failed.append(title)
    notes = [f"{path}: left out, since only durations are judged: {', '.join(other)}"] if other else []
    notes += [f"{path}: failed or skipped, and left out: {', '.join(failed)}"] if failed else []
    if not runs:
        raise UsageError(f"{path}: holds no timing ({'; '.join(notes) or 'no benchmark at all'}); {REMEDY}")
    return FileRuns(runs, tuple(notes))


def _combinations(name: str, columns: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Each combination of a benchmark's parameters, with its durations in seconds; none where it failed."""
    results: Sequence[Any] = columns.get("result") or (None,)
    samples: Sequence[Any] = columns.get("samples") or ()
    combinations = list(product(*(columns.get("params") or ()))) or [()]
    for number, combination in enumerate(combinations):
        title = f"{name}({', '.join(map(str, combination))})" if combination else name
        result = results[number] if number < len(results) else None
        taken = samples[number] if number < len(samples) else None
        values = taken or ((result,) if result is not None else ())
        yield title, tuple(value for value in map(_duration, values) if value is not None)


def _duration(value: Any) -> float | None:
    """Seconds; ``None`` for NaN, which asv writes for a combination that was skipped."""
    usable = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if usable else None


def _is_timing(name: str, types: Mapping[str, str]) -> bool:
    return types.get(name, "time" if name.rpartition(".")[2].startswith(TIMING) else "") == "time"


def _benchmark_types(path: Path) -> Mapping[str, str]:
    """The types of the benchmarks by name, from the file beside the machines' folders; empty where it is not there."""
    try:
        document = json.loads((path.resolve().parent.parent / "benchmarks.json").read_text())
    except (OSError, ValueError):
        return {}
    entries = document.items() if isinstance(document, dict) else ()
    return {name: str(entry.get("type")) for name, entry in entries if isinstance(entry, dict)}


def _without_paths(environment: str) -> str:
    """The environment's name. That of an existing one holds the path of its interpreter, which differs by checkout."""
    return environment.partition("-py_")[0] if environment.startswith("existing") else environment


IMPORTER = Importer(
    "asv's results",
    read_asv,
    signature=re.compile(rb'\A\s*\{\s*"commit_hash"\s*:\s*"'),
)
