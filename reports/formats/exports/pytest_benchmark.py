"""Cases as the JSON file of pytest-benchmark, for `pytest-benchmark compare FILE...`.

A case is a benchmark, a trial is one of its rounds, and the time of a round is the trial's median step. Ingested nights
are exported likewise: a run is a round, and its time is the median of the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from reports.formats.exports import CannotExport, Export, Format
from reports.formats.trial_rows import SweepFacts, SweepTable, TrialRow

VERSION = "5.0.0"
"""The version of pytest-benchmark that the format follows."""
GENERATOR = "scaling-harness"
"""Tells these files from those of pytest-benchmark itself, which ignores it."""
RUN_NAMES = "scaling_harness_runs"
"""The key in ``extra_info`` of the names of the rounds, each of which is a run in a fresh process."""
MACHINE_FIELDS = {
    "host": ("node",),
    "cpu": ("cpu", "brand_raw"),
    "cores": ("cpu", "count"),
    "python": ("python_version",),
    "implementation": ("python_implementation",),
}
"""The path in ``machine_info`` of each field of an environment; its other fields are packages."""
UNKNOWN = "unknown"
"""pytest-benchmark's word for what it could not read."""
PARAMS = ("backend", "transport", "ranks", "batch", "threads", "seed", "fault")


def render(table: SweepTable) -> Export:
    """The cases of one sweep; raises :class:`CannotExport` for several sweeps."""
    if len(table.sweeps) != 1:
        raise CannotExport("pytest-benchmark compares files: export each sweep to a file of its own")
    (sweep,) = table.sweeps
    cases: dict[str, list[TrialRow]] = {}
    for row in table.rows:
        cases.setdefault(row.case, []).append(row)
    counted = [[row for row in rows if row.step_s is not None] for rows in cases.values()]
    commit = {"id": sweep.commit, "dirty": sweep.changed_files, "project": "scaling-harness"}
    benchmarks = [_benchmark(rows) for rows in counted if rows]
    unmeasured = [rows[0] for rows, numbers in zip(cases.values(), counted, strict=True) if not numbers]
    return Export(
        _document(machine_info(sweep), commit, benchmarks, sweep.started_at),
        tuple(f"{row.title}: {row.outcome}, {row.reason}" for row in unmeasured),
    )


def render_night(
    benchmarks: Mapping[str, Mapping[str, float]],
    environment: Mapping[str, str],
    commit: str | None,
    timestamp: str,
    *,
    changed_files: bool | None = None,
) -> Export:
    """A night of ingested runs.

    Args:
        benchmarks: the median of each run in seconds, by benchmark and run.
        environment: machine and versions, by name.
        commit: of the code that ran.
        timestamp: ISO 8601.
        changed_files: whether files differed from the commit; ``None`` where that is unknown.
    """
    info: dict[str, Any] = {
        "packages": {name: text for name, text in environment.items() if name not in MACHINE_FIELDS}
    }
    for name, (*outer, last) in MACHINE_FIELDS.items():
        holder = info
        for part in outer:
            holder = holder.setdefault(part, {})
        if name in environment:
            holder[last] = int(environment[name]) if name == "cores" else environment[name]
    entries = [
        {
            "group": None,
            "name": name.rpartition("::")[2],
            "fullname": name,
            "params": None,
            "param": None,
            "extra_info": {RUN_NAMES: list(runs)},
            "options": {},
            "stats": stats_of(list(runs.values())),
        }
        for name, runs in benchmarks.items()
    ]
    return Export(_document(info, {"id": commit, "dirty": changed_files}, entries, timestamp))


def _document(machine: Any, commit: Any, benchmarks: Any, timestamp: str) -> str:
    document = {
        "generator": GENERATOR,
        "machine_info": machine,
        "commit_info": commit,
        "benchmarks": benchmarks,
        "datetime": timestamp,
        "version": VERSION,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def machine_info(sweep: SweepFacts) -> dict[str, Any]:
    """The environment of a sweep, under pytest-benchmark's names where it has them."""
    return {
        "node": sweep.host,
        "system": sweep.system,
        "python_version": sweep.python,
        "cpu": {"brand_raw": sweep.cpu, "count": sweep.cores},
        "memory_bytes": sweep.memory_bytes,
        "gpus": list(sweep.gpus),
        "packages": sweep.packages,
    }


def _benchmark(rows: Sequence[TrialRow]) -> dict[str, Any]:
    first = rows[0]
    options = {f"workload.{name}": value for name, value in first.workload_options.items()}
    options |= {f"backend.{name}": value for name, value in first.backend_options.items()}
    options |= {f"env.{name}": value for name, value in first.env.items()}
    return {
        "group": f"{first.workload}/{first.scaling}",
        "name": first.title,
        "fullname": first.case,
        "params": {name: getattr(first, name) for name in PARAMS} | options,
        "param": f"{first.backend}-{first.transport}-{first.ranks}",
        "extra_info": {
            "sweep": first.sweep,
            "curve": first.curve,
            "unit": first.unit,
            "throughput": [row.throughput for row in rows],
            "flags": list(first.flags),
            "same_work": first.same_work,
            RUN_NAMES: [f"{row.sweep}/{row.round}" for row in rows],
        },
        "options": {},
        "stats": stats_of([row.step_s for row in rows if row.step_s is not None]),
    }


def stats_of(times_s: Sequence[float]) -> dict[str, Any]:
    """The statistics of pytest-benchmark by its definitions: Tukey's fences, quartiles by method 3 of
    https://en.wikipedia.org/wiki/Quartile, and a standard deviation of 0 for a single round."""
    middle, deviation = mean(times_s), stdev(times_s) if len(times_s) > 1 else 0.0
    ordered = sorted(times_s)
    q1, q3 = _lower_quartile(ordered), -_lower_quartile([-time_s for time_s in reversed(ordered)])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    far = sum(not middle - deviation <= time_s <= middle + deviation for time_s in times_s)
    beyond = sum(not low <= time_s <= high for time_s in times_s)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": middle,
        "stddev": deviation,
        "rounds": len(times_s),
        "median": median(times_s),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond,
        "stddev_outliers": far,
        "outliers": f"{far};{beyond}",
        "ld15iqr": min(time_s for time_s in ordered if time_s >= low),
        "hd15iqr": max(time_s for time_s in ordered if time_s <= high),
        "ops": len(times_s) / sum(times_s),
        "total": sum(times_s),
        "data": list(times_s),
        "iterations": 1,
    }


def _lower_quartile(ordered: Sequence[float]) -> float:
    """The mean of the medians of the lower half with and without the middle value."""
    half, odd = divmod(len(ordered), 2)
    if not half:
        return ordered[0]
    return (median(ordered[:half]) + median(ordered[: half + odd])) / 2


FORMAT = Format(
    "a benchmark a case, for `pytest-benchmark compare`",
    (".json",),
    render,
    # Earlier files had no generator.
    signature=re.compile(rb'\A\{\s*"generator": "scaling-harness",|"scaling_harness_runs": \['),
)
