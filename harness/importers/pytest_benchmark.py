"""Reads pytest-benchmark's JSON files as runs of benchmarks.

A file is one run (a fresh process) of each of its benchmarks. The rounds in it are not independent samples. In our own
exports, which name the rounds, each round is the median of a run.
The format: https://pytest-benchmark.readthedocs.io, and ``reports/formats/exports/pytest_benchmark.py``, which writes
it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness.errors import UsageError
from harness.importers import Importer
from harness.importers.documents import Section, read_document
from reports.formats.exports.pytest_benchmark import MACHINE_FIELDS, RUN_NAMES, UNKNOWN

if TYPE_CHECKING:
    from harness.store.ledger import IngestedRun

REMEDY = "write it again with `pytest --benchmark-json FILE`"
MEDIAN_ONLY = " (median only)"
"""Suffix of the source of runs whose rounds were not saved."""
NO_COMMIT = frozenset({"", "unversioned", "unknown"})
"""pytest-benchmark's values for no commit."""

CPU_PATHS = (MACHINE_FIELDS["cpu"], ("cpu", "brand"), ("cpu", "hardware_raw"), ("cpu", "hardware"))
"""Where the CPU's name is: in ``brand`` for pytest-benchmark 3, in ``hardware`` for some ARM processors."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Stats(Section):
    data: tuple[Seconds, ...] | None = Field(None, min_length=1)
    median: Seconds


class _Extra(Section):
    runs: tuple[str, ...] | None = Field(None, alias=RUN_NAMES)


class _Benchmark(Section):
    fullname: str = Field(min_length=1)
    extra_info: _Extra = _Extra()
    stats: _Stats


class _Commit(Section):
    id: str | None = None
    dirty: bool | None = None


class _File(Section):
    machine_info: dict[str, Any]
    commit_info: _Commit
    benchmarks: tuple[_Benchmark, ...] = Field(min_length=1)
    moment: datetime = Field(alias="datetime")


def read_pytest_benchmark(path: Path, night: str | None = None) -> tuple[IngestedRun, ...]:
    """Read the runs in a file. ``night``: their label; default: the file's day (UTC). Raises :class:`UsageError`."""
    source, file = read_document(path, night, _File, "pytest-benchmark", REMEDY)
    (name, count), *_ = Counter(stable_name(benchmark.fullname) for benchmark in file.benchmarks).most_common(1)
    if count > 1:
        raise UsageError(f"{path}: holds {count} benchmarks named '{name}'; give each another name")
    return tuple(_runs_of(path, file, source.digest, night))


def _runs_of(path: Path, file: _File, digest: str, night: str | None) -> Iterable[IngestedRun]:
    # The ledger loads SQLAlchemy, which listing importers does not need.
    from harness.store.ledger import IngestedRun

    # Older versions wrote UTC without a time zone.
    moment = file.moment if file.moment.tzinfo else file.moment.replace(tzinfo=UTC)
    at = moment.astimezone(UTC)
    commit = None if file.commit_info.id in NO_COMMIT else file.commit_info.id
    shared: dict[str, Any] = {
        "night": night or at.date().isoformat(),
        "at": at.isoformat(),
        "place": place_of(file.machine_info),
        "commit": commit,
        "changed_files": file.commit_info.dirty if commit else None,
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
    """Machine, interpreter and versions by name; nights are comparable only where all are equal.

    pytest-benchmark itself records no packages; a project's ``pytest_benchmark_update_machine_info`` may.
    """
    known = {name: _nested(machine_info, path) for name, path in MACHINE_FIELDS.items()}
    known["cpu"] = _cpu_name(machine_info)
    # Of PyPy the version of Python says little.
    version = _nested(machine_info, ("python_implementation_version",))
    known |= {"implementation version": version} if version != known["python"] else {}
    packages = _nested(machine_info, ("packages",))
    known |= packages if isinstance(packages, dict) else {}
    return {name: str(value) for name, value in known.items() if _is_known(value)}


def _cpu_name(machine_info: Any) -> Any:
    """The first known name of the CPU; that of :func:`platform.processor` where it says more than the architecture."""
    names = [_nested(machine_info, path) for path in CPU_PATHS]
    processor = _nested(machine_info, ("processor",))
    names += [processor] if processor != _nested(machine_info, ("machine",)) else []
    return next((name for name in names if _is_known(name)), None)


def _is_known(value: Any) -> bool:
    return isinstance(value, str | int) and value not in ("", UNKNOWN)


def _nested(holder: Any, path: Sequence[str]) -> Any:
    for part in path:
        holder = holder.get(part) if isinstance(holder, dict) else None
    return holder


def stable_name(fullname: str) -> str:
    """pytest's name of a test, without folders outside pytest's root, which differ between machines."""
    file, separator, test = fullname.partition("::")
    inside = not file.startswith("..") and not PurePosixPath(file).is_absolute() and not PureWindowsPath(file).drive
    return fullname if inside or not separator else f"{PureWindowsPath(file).name}::{test}"


IMPORTER = Importer(
    "pytest-benchmark's JSON",
    read_pytest_benchmark,
    signature=re.compile(rb'\A\s*\{.*"machine_info"\s*:', re.DOTALL),
)
