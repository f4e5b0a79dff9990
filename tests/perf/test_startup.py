"""What a trial takes beside its steps, on the warm site: until the first step, and from the request to the result."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest

from bench.core.case import Case
from bench.plugins import registry
from harness.sites.local.site import SITE
from harness.sweep.runner import run_trial
from tests.perf.conftest import spread

TRIALS, RANKS, BATCH, STEPS = 20, 2, 128, 50
FIRST_STEP_GOAL_S = 0.3
BESIDE_GOALS_S = {"ddp": 0.15, "horovod": 0.25}


class Course(NamedTuple):
    """One trial, in seconds."""

    to_first_step: float
    """From the request until the last rank was in its first step."""
    to_own_code: float
    """The part of it in which the ranks did not run yet."""
    after_last_step: float
    beside_steps: float


@pytest.mark.parametrize("backend", BESIDE_GOALS_S)
def test_first_step_and_time_beside_the_steps(benchmark, tell, goal, tmp_path, backend):
    case = Case(workload="synthetic", backend=backend, transport="gloo", ranks=RANKS, batch=BATCH, steps=STEPS)
    loaded = registry.load_backend(backend)

    def follow() -> Course:
        asked_s = time.monotonic()
        trial = run_trial(case, 0, SITE, loaded, tmp_path, "here")
        answered_s = time.monotonic()
        assert len(trial.ranks) == RANKS, (trial.reason, trial.log_tail)
        first_s, last_s = zip(*(rank.stepping_s for rank in trial.ranks), strict=True)
        return Course(
            to_first_step=max(first_s) - asked_s,
            to_own_code=max(rank.stepping_s[0] - rank.startup_s for rank in trial.ranks) - asked_s,
            after_last_step=answered_s - max(last_s),
            beside_steps=answered_s - asked_s - (max(last_s) - min(first_s)),
        )

    # The warm parent itself starts with the first trial.
    follow()
    seen: list[Course] = []
    benchmark.pedantic(lambda: seen.append(follow()), rounds=TRIALS, iterations=1)
    benchmark.extra_info |= {"trials": [one._asdict() for one in seen]}
    to_first, to_own, after, beside = zip(*seen, strict=True)
    tell(
        f"seconds from request to first step: median {spread(to_first, 'trials')}; "
        f"the ranks' own code ran after {spread(to_own, 'trials')}"
    )
    tell(
        f"seconds of a trial outside its steps: median {spread(beside, 'trials')}; "
        f"after the last step {spread(after, 'trials')}"
    )
    goal(f"{backend}, 2 ranks: from request to first step, s", to_first, at_most=FIRST_STEP_GOAL_S)
    goal(f"{backend}, 2 ranks: a single trial beside its steps, s", beside, at_most=BESIDE_GOALS_S[backend])
