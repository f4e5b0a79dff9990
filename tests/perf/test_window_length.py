"""What windows gain that adapt to the spread of trials: the width of a cell's interval for the time of its trials."""

from __future__ import annotations

import math
from statistics import fmean, median, stdev

import pytest

from bench.core.case import Case
from bench.plugins import registry
from harness.sites.local.site import SITE
from harness.sweep.runner import run_trial
from harness.sweep.windows import known_spreads, with_chosen_windows
from reports.analysis.window_length import TrialSpread, spread_of

PAIRS, LEARNED = 8, 2
CELLS = [
    ("mnist", "single", "none", 1, "auto"),
    ("mnist", "ddp", "gloo", 2, "auto"),
    ("mnist", "ddp", "gloo", 2, "off"),
]


def width(spreads: list[TrialSpread]) -> float:
    """The relative standard error of a trial times the root of its time, in percent·√s: what an interval's width is
    proportional to, for the same time of a sweep."""
    return (
        100 * stdev(one.log_rate for one in spreads) * math.sqrt(fmean(one.window_s + one.other_s for one in spreads))
    )


@pytest.mark.parametrize(("workload", "backend", "transport", "ranks", "telemetry"), CELLS)
def test_width_for_the_time(benchmark, tell, tmp_path, workload, backend, transport, ranks, telemetry):
    loaded, work = registry.load_backend(backend), registry.load_workload(workload)
    case = Case(
        workload=workload,
        backend=backend,
        transport=transport,
        ranks=ranks,
        batch=128,
        decompose=False,
        adapt_window=True,
        telemetry=telemetry,
    )
    case = case.model_copy(update={"data": work.prepare(case)})
    trials = []

    def take(chosen: Case) -> TrialSpread:
        trial = run_trial(chosen, len(trials), SITE, loaded, tmp_path, "here")
        spread = spread_of(trial)
        assert spread is not None, (trial.outcome, trial.reason)
        trials.append(trial)
        return spread

    for _ in range(LEARNED):
        take(case)
    (adapted,) = with_chosen_windows([case], LEARNED, known_spreads(trials))
    fixed: list[TrialSpread] = []
    auto: list[TrialSpread] = []

    def pair() -> None:
        for chosen, spreads in ((case, fixed), (adapted, auto))[:: -1 if len(fixed) % 2 else 1]:
            spreads.append(take(chosen))

    benchmark.pedantic(pair, rounds=PAIRS, iterations=1)
    within = 100 * math.sqrt(median(one.within for one in fixed))
    other_s = median(one.other_s for one in fixed)
    tell(
        f"windows of {adapted.target_window_s:.2f} s instead of {case.window_s:.2f} s beside {other_s:.2f} s: "
        f"{width(auto):.2f} %·√s instead of {width(fixed):.2f}; trials differ by "
        f"{100 * stdev(one.log_rate for one in fixed):.2f} %, a window of 1 s by {within:.2f} % within"
    )
