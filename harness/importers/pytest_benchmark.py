"""``ingest``: store the benchmarks of pytest-benchmark's JSON files; checks judge them beside the sweeps.

A file is one run (a fresh process) of each of its benchmarks. The rounds in it are not independent samples. In our own
exports, which name the rounds, each round is the median of a run.
The format: https://pytest-benchmark.readthedocs.io, and ``reports/formats/exports/pytest_benchmark.py``, which writes
it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from harness.errors import UsageError
from harness.store.ledger import IngestedRun, Ledger
from harness.store.opening import open_store
from reports.formats.documents import versioned
from reports.formats.exports.pytest_benchmark import MACHINE_FIELDS, RUN_NAMES

REMEDY = "write it again with `pytest --benchmark-json FILE`"
MEDIAN_ONLY = " (median only)"
"""Suffix of the source of runs whose rounds were not saved."""
NO_COMMIT = frozenset({"", "unversioned", "unknown"})
"""pytest-benchmark's values for no commit."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    """The parts of pytest-benchmark's file that are read; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Stats(_Section):
    data: tuple[Seconds, ...] | None = Field(None, min_length=1)
    median: Seconds


class _Extra(_Section):
    runs: tuple[str, ...] | None = Field(None, alias=RUN_NAMES)


class _Benchmark(_Section):
    fullname: str = Field(min_length=1)
    extra_info: _Extra = _Extra()
    stats: _Stats


class _Commit(_Section):
    id: str | None = None


class _File(_Section):
    machine_info: dict[str, Any]
    commit_info: _Commit
    benchmarks: tuple[_Benchmark, ...] = Field(min_length=1)
    moment: datetime = Field(alias="datetime")


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
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for note in self.notes:
            console.print(f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def ingest(files: Sequence[Path], store_url: str, night: str | None) -> IngestResult:
    """Store the runs of all files, or of none. ``night``: their label; default: the day of each file (UTC).

    Raises :class:`UsageError` before anything is written.
    """
    if night is not None and not night.strip():
        raise UsageError("--night: is empty; name the night, or leave --night out")
    read = {path: read_pytest_benchmark(path, night) for path in dict.fromkeys(files)}
    runs = [run for some in read.values() for run in some]
    with closing(open_store(store_url, create=True)) as store:
        return _store_runs(store.ledger, runs)


def _store_runs(ledger: Ledger, runs: Sequence[IngestedRun]) -> IngestResult:
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


def _mixed_commit_notes(runs: Iterable[IngestedRun]) -> list[str]:
    commits: dict[str, set[str]] = {}
    for run in runs:
        commits.setdefault(run.night, set()).add(run.commit or "no commit")
    return [
        f"night {night} holds runs of {len(ids)} commits ({', '.join(sorted(ids))}): separate them by --night"
        for night, ids in commits.items()
        if len(ids) > 1
    ]


def read_pytest_benchmark(path: Path, night: str | None = None) -> tuple[IngestedRun, ...]:
    """Read the runs in a file. ``night``: their label; default: the file's day (UTC). Raises :class:`UsageError`."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror}); {REMEDY}") from None
    try:
        file = _File.model_validate_json(content)
    except ValidationError as problem:
        raise UsageError(f"{path}: {_first_error(problem)}; {REMEDY}") from None
    (name, count), *_ = Counter(stable_name(benchmark.fullname) for benchmark in file.benchmarks).most_common(1)
    if count > 1:
        raise UsageError(f"{path}: holds {count} benchmarks named '{name}'; give each another name")
    return tuple(_runs_of(path, file, hashlib.sha256(content).hexdigest()[:16], night))


def _runs_of(path: Path, file: _File, digest: str, night: str | None) -> Iterable[IngestedRun]:
    # Older versions wrote UTC without a time zone.
    moment = file.moment if file.moment.tzinfo else file.moment.replace(tzinfo=UTC)
    at = moment.astimezone(UTC)
    shared: dict[str, Any] = {
        "night": night or at.date().isoformat(),
        "at": at.isoformat(),
        "place": place_of(file.machine_info),
        "commit": None if file.commit_info.id in NO_COMMIT else file.commit_info.id,
    }
    for number, benchmark in enumerate(file.benchmarks):
        name, rounds = stable_name(benchmark.fullname), benchmark.stats.data
        source = str(path) if rounds else f"{path}{MEDIAN_ONLY}"
        runs = benchmark.extra_info.runs
        if runs is None:
            yield IngestedRun(
                benchmark=name, run=digest, seconds=rounds or (benchmark.stats.median,), source=source, **shared
            )
            continue
        if rounds is None or len(runs) != len(rounds) or len(set(runs)) != len(runs):
            raise UsageError(
                f"{path}: benchmarks.{number}.extra_info.{RUN_NAMES}: is no name for each round of stats.data; "
                "export the file again"
            )
        for run, seconds in zip(runs, rounds, strict=True):
            yield IngestedRun(benchmark=name, run=run, seconds=(seconds,), source=source, **shared)


def place_of(machine_info: Any) -> dict[str, str]:
    """Machine and versions by name; nights are comparable only where all are equal.

    pytest-benchmark itself records no packages; a project's ``pytest_benchmark_update_machine_info`` may.
    """
    packages = _nested(machine_info, ("packages",))
    known = {name: _nested(machine_info, path) for name, path in MACHINE_FIELDS.items()}
    known |= packages if isinstance(packages, dict) else {}
    return {name: str(value) for name, value in known.items() if isinstance(value, str | int)}


def _nested(holder: Any, path: Sequence[str]) -> Any:
    for part in path:
        holder = holder.get(part) if isinstance(holder, dict) else None
    return holder


def stable_name(fullname: str) -> str:
    """pytest's name of a test, without folders outside pytest's root, which differ between machines."""
    file, separator, test = fullname.partition("::")
    inside = not file.startswith("..") and not PurePosixPath(file).is_absolute() and not PureWindowsPath(file).drive
    return fullname if inside or not separator else f"{PureWindowsPath(file).name}::{test}"


def _first_error(problem: ValidationError) -> str:
    """The first error, with its place in the file."""
    first = problem.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return f"is no JSON of pytest-benchmark ({first['msg']})"
    is_now = f", not {first['input']}" if isinstance(first["input"], float | int | str) else ""
    return f"{where}: {first['msg']}{is_now}"
