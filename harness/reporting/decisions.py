"""What the trials of a sweep decide that goes on until its answers are known."""

from __future__ import annotations

from collections.abc import Iterable

from bench.core.records import Trial
from harness.store.store import Store, SweepInfo
from harness.store.trial_outcomes import TrialOutcome, outcome_of_trial, read_trial_outcomes
from reports.analysis.conditions import MAY_DISTURB
from reports.analysis.decisions import Decisions, Observed, StoppingRule, decide


def decisions_of(info: SweepInfo, store: Store) -> Decisions | None:
    """What the stored trials of a sweep decide; ``None`` of one with a fixed number of rounds. Raises
    :class:`harness.errors.StoreError`."""
    if info.suite.until is None:
        return None
    return decide(list(observe(info, read_trial_outcomes(store, info.id)).values()), stopping_rule(info))


def stopping_rule(info: SweepInfo) -> StoppingRule:
    """When enough is known, as the suite of a sweep says."""
    return StoppingRule(max_rounds=info.plan.repeats, margin=info.suite.margin, past=info.past_rates)


def observe(info: SweepInfo, trials: Iterable[TrialOutcome]) -> dict[str, Observed]:
    """What is known of each planned case, by its key."""
    observed = {case.key: Observed(case, case.key, {}) for case in info.plan.cases}
    for trial in trials:
        if trial.key in observed:
            observed[trial.key] = _with_outcome(observed[trial.key], trial)
    return observed


def with_trial(seen: Observed, trial: Trial) -> Observed:
    """With one more trial. A contaminated one gives no number, and is made up for in a further round."""
    return _with_outcome(seen, outcome_of_trial(trial))


def _with_outcome(seen: Observed, trial: TrialOutcome) -> Observed:
    return seen._replace(
        rates=seen.rates if trial.throughput is None else {**seen.rates, trial.round: trial.throughput},
        last_round=max(seen.last_round, trial.round),
        trials=seen.trials + 1,
        is_settled=seen.is_settled or trial.is_final,
        is_disturbed=seen.is_disturbed or not MAY_DISTURB.isdisjoint(trial.conditions),
    )
