"""A sweep that goes on where its answers are open: which trials are next.

That is a function of the plan and of the trials that are stored: a sweep which is resumed goes on as it would have
without a break.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from bench.core.case import Case
from harness.planning.plan import shuffle_cases
from harness.reporting.decisions import observe, stopping_rule, with_trial
from harness.store.store import Store, SweepInfo
from harness.store.trial_outcomes import TrialOutcome, read_trial_outcomes
from reports.analysis.decisions import Observed, Question, StoppingRule, decide, most_trials, questions_of


class NextRound(NamedTuple):
    """The cases that a round visits next."""

    number: int
    cases: list[Case]
    """In their order."""
    most: int
    """How many trials may follow, these included."""


def next_round(
    observed: Sequence[Observed],
    rule: StoppingRule,
    seed: int,
    questions: Sequence[Question],
    later: Collection[str] = (),
) -> NextRound | None:
    """What runs next, or ``None``: no question is open, or no trial is left (pure).

    The first round visits every case; the others those that would help to decide an open question. Whoever can asks
    again after each trial: a round goes on while there are such cases that it has not visited.

    Args:
        observed: Every planned case, with the trials that have ended.
        rule: When enough is known.
        seed: Decides the order of each round, as in a sweep of a fixed number of rounds.
        questions: Of the planned cases.
        later: The keys of cases that are measured in rounds of their own, after the others.
    """
    if unvisited := {one.key for one in observed if one.last_round < 0}:
        ended = sum(min(one.last_round + 1, rule.max_rounds) for one in observed)
        most = most_trials([one.key for one in observed], rule, questions) - ended
        return NextRound(0, _in_order(unvisited, observed, seed, 0), most)
    needed = set(decide(observed, rule, questions).needed)
    most = _most([one for one in observed if one.key in needed], rule)
    for is_later in (False, True):
        part = [one for one in observed if (one.key in later) == is_later]
        newest = max((one.last_round for one in part), default=0)
        for number in (newest, newest + 1):
            wanted = {one.key for one in part if one.key in needed and one.last_round < number}
            if wanted and number < rule.max_rounds:
                return NextRound(number, _in_order(wanted, observed, seed, number), most)
    return None


def _most(observed: Iterable[Observed], rule: StoppingRule) -> int:
    """How many trials these cases have at most in the rounds that they have not visited."""
    return sum(max(rule.max_rounds - 1 - one.last_round, 0) for one in observed)


def _in_order(wanted: set[str], observed: Sequence[Observed], seed: int, number: int) -> list[Case]:
    order = shuffle_cases(range(len(observed)), seed, number)
    return [observed[place].case for place in order if observed[place].key in wanted]


def begun_round(
    info: SweepInfo, trials: Sequence[TrialOutcome], rule: StoppingRule, questions: Sequence[Question]
) -> NextRound | None:
    """What is left of the last round of an interrupted sweep, whose cases were submitted together (pure).

    It was decided on by what was known at its beginning: by its own trials, some of the others may not be needed any
    more, whose job runs them all the same.
    """
    later = set(info.plan.later)
    # These come after all others, in rounds of their own.
    newest = [trial for trial in trials if trial.key in later] or trials
    number = max((trial.round for trial in newest), default=0)
    ended = {trial.key for trial in newest if trial.round == number}
    before = [trial for trial in trials if trial.round != number or trial.key not in ended]
    found = next_round(list(observe(info, before).values()), rule, info.suite.seed, questions, info.plan.later)
    if found is None or found.number != number:
        return None
    left = [case for case in found.cases if case.key not in ended]
    return NextRound(number, left, found.most - len(ended)) if left else None


def rounds_until_decided(info: SweepInfo, store: Store, *, whole_rounds: bool) -> Iterator[NextRound]:
    """Yield what runs next, until nothing is open; each time the trials of what was yielded are stored by then.

    Args:
        info: The sweep, with its plan.
        store: Holds its trials.
        whole_rounds: Whether the site runs the cases of a round together. Else a case is decided on after each trial.
    """
    rule, questions = stopping_rule(info), questions_of(info.plan.cases)
    trials = read_trial_outcomes(store, info.id)
    observed = observe(info, trials)
    begun = begun_round(info, trials, rule, questions) if whole_rounds else None
    while (
        following := begun or next_round(list(observed.values()), rule, info.suite.seed, questions, info.plan.later)
    ) is not None:
        begun = None
        first = following.number == 0 or whole_rounds
        chosen = following if first else following._replace(cases=following.cases[:1])
        yield chosen
        for case in chosen.cases:
            key = case.key
            # A record that can't be read is a trial that gave nothing.
            trial = store.trial(info.id, key, chosen.number)
            if trial is None:
                observed[key] = observed[key]._replace(last_round=chosen.number)
            else:
                observed[key] = with_trial(observed[key], trial)
