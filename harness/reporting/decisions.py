"""What the trials of a sweep decide that goes on until its answers are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.core.records import Trial
from harness.store.store import SweepInfo
from reports.analysis.conditions import DISTURBING
from reports.analysis.decisions import Decisions, Observed, StoppingRule, decide
from reports.analysis.trial_measures import measure_trial


def decisions_of(info: SweepInfo, trials: Sequence[Trial]) -> Decisions | None:
    """What the trials of a sweep decide; ``None`` of one with a fixed number of rounds."""
    if info.suite.until is None:
        return None
    return decide(list(observe(info, trials).values()), stopping_rule(info))


def stopping_rule(info: SweepInfo) -> StoppingRule:
    """When enough is known, as the suite of a sweep says."""
    return StoppingRule(max_rounds=info.plan.repeats, margin=info.suite.margin, past=info.past_rates)


def observe(info: SweepInfo, trials: Iterable[Trial]) -> dict[str, Observed]:
    """What is known of each planned case, by its key."""
    observed = {case.key: Observed(case, case.key, {}) for case in info.plan.cases}
    for trial in trials:
        key = trial.case.key
        if key in observed:
            observed[key] = with_trial(observed[key], trial)
    return observed


def with_trial(seen: Observed, trial: Trial) -> Observed:
    """With one more trial. A contaminated one gives no number, and is made up for in a further round."""
    measures = measure_trial(trial)
    other_work = trial.same_work is not None and trial.same_work.verdict == "different"
    return seen._replace(
        rates=seen.rates if measures is None else {**seen.rates, trial.round: measures.throughput},
        last_round=max(seen.last_round, trial.round),
        trials=seen.trials + 1,
        is_settled=seen.is_settled or other_work or trial.outcome in ("failed", "timeout"),
        is_disturbed=seen.is_disturbed or not DISTURBING.isdisjoint(one.name for one in trial.conditions),
    )
