"""Sweeps to export, and what reads the exports."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

from bench.core.records import Trial
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from tests.support.builders import make_case, make_trial
from tests.support.stored_once import this_environment

HOSTILE = 'died: "x", y\r\n=HYPERLINK("http://a";"b")\n\u2028🙂'


def store_sweep(place, trials, skips=(), name="s1", started_at="2026-01-01T00:00:00+00:00"):
    """A finished sweep of those trials, in the order of their cases."""
    cases = {trial.case.key: trial.case for trial in trials}
    info = SweepInfo(
        id=name,
        started_at=started_at,
        command="python -m harness sweep",
        suite=Suite(),
        plan=Plan(cases=tuple(cases.values()), skips=tuple(skips), not_applicable=(), repeats=1),
        environment=this_environment(),
    )
    store = open_store(str(place), create=True)
    store.begin_sweep(info)
    for trial in trials:
        store.add_trial(name, trial)
    store.finish_sweep(name, "2026-01-01T01:00:00+00:00")
    store.close()


def curve(backend="ddp", counts=(1, 2, 4), rounds=2, **changes) -> list[Trial]:
    """Repeats at each rank count, none like another."""
    return [
        make_trial(make_case(backend=backend, ranks=ranks, **changes), number, 0.1 / ranks**0.5 + 0.001 * number)
        for ranks in counts
        for number in range(rounds)
    ]


def compare(folder, *arguments):
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))
