"""Stores with a history of synthetic nights, for tests of the command `check`."""

from __future__ import annotations

import random

from bench.core.records import Trial
from harness.planning.environment import Environment
from harness.planning.plan import Plan, Skip
from harness.planning.suite import Suite
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from tests.support.builders import make_case, make_trial
from tests.support.stored_once import this_environment, write_once

CASES = tuple(make_case(ranks=ranks) for ranks in (1, 2, 4))
STEP_S = {1: 0.1, 2: 0.06, 4: 0.04}


def environment(commit: str, **changes) -> Environment:
    return this_environment().model_copy(update={"commit": commit, "changed_files": False, **changes})


def write_nights(place, count: int, first: int = 1, **asked) -> None:
    """``count`` nights of the suite ``nightly``. ``slower``: by rank count, how much longer a step takes;
    ``variables``: what the ranks recorded of their environment; ``decided_by``: by rank count, the number of trials by
    which its questions were decided."""
    write_once(place, lambda: _write(place, count, first, **asked), "nights", count, first, sorted(asked.items()))


def _write(
    place,
    count: int,
    first: int,
    slower=None,
    commit=None,
    cases=CASES,
    skips=(),
    variables=None,
    hour=0,
    decided_by=None,
    **changes,
) -> None:
    suite = Suite(name="nightly", until="decided" if decided_by else None)
    store = open_store(str(place), create=True)
    for number in range(first, first + count):
        name = f"202601{number:02d}-{hour:02d}0000-abcd"
        where = environment(commit or f"c{number}", **changes)
        store.begin_sweep(
            SweepInfo(
                id=name,
                started_at=f"2026-01-{number:02d}T{hour:02d}:00:00+00:00",
                command="python -m harness sweep nightly",
                suite=suite,
                environment=where,
                plan=Plan(
                    cases=cases,
                    skips=tuple(Skip(case=case, reason="4 ranks need 4 cores") for case in skips),
                    not_applicable=(),
                    repeats=5,
                ),
            )
        )
        for case in cases:
            for trial in trials_of(case, number, (slower or {}).get(case.ranks, 1.0))[
                : (decided_by or {}).get(case.ranks)
            ]:
                ranks = tuple(rank.model_copy(update={"variables": variables}) for rank in trial.ranks)
                store.add_trial(name, trial.model_copy(update={"ranks": ranks}))
        store.finish_sweep(name, f"2026-01-{number:02d}T{hour + 1:02d}:00:00+00:00")
    store.close()


def trials_of(case, seed: int, factor: float = 1.0) -> list[Trial]:
    """Five, whose medians differ by some two per cent."""
    noise = random.Random(f"{case.key} {seed}")
    return [make_trial(case, number, STEP_S[case.ranks] * factor * (1 + noise.gauss(0, 0.02))) for number in range(5)]
