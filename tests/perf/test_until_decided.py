"""What ``--until decided`` costs beside a fixed number of rounds, how often it is wrong, and other rules.

Sweeps are simulated: the 24 cells of the quick suite, over made-up distributions of trials and over those of recorded
sweeps (``RECORDED_STORES``: files of stores, by ``:``). "Fixed" is a sweep of as many rounds as the cap, whose
questions are answered by Welch's 95 % intervals of each pair, as the first screen does.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.store.opening import open_store
from reports.analysis.decisions import Question, StoppingRule, questions_of
from reports.analysis.looks import Looks
from reports.analysis.scaling_reach import EFFICIENCY_BAR
from tests.support.trial_distributions import (
    DISTRIBUTIONS,
    Noise,
    SimulatedSweep,
    Truth,
    fixed,
    fixed_answer,
    is_wrong,
    made_up,
    quick_cases,
    recorded,
    simulate,
    usual_truth,
    worst_truth,
)

SWEEPS = int(os.environ.get("SIMULATED_SWEEPS", "16"))
CASES = quick_cases()
BY_KEY = {case.key: case for case in CASES}
QUESTIONS = questions_of(CASES)
QUIET, NOISY = 0.02, 0.15
QUIET_ROUNDS, NOISY_ROUNDS = 3, 10
QUIET_GOAL, NOISY_GOAL = 0.5, 0.35
MARGIN = StoppingRule(max_rounds=1).margin
MakeNoise = Callable[[random.Random], Noise]


class Tally(NamedTuple):
    """Sums over sweeps."""

    trials: int = 0
    decided: int = 0
    wrong: int = 0
    wrong_sweeps: int = 0

    def plus(self, sweep: SimulatedSweep, truth: Truth) -> Tally:
        decisions = sweep.decisions.decisions
        wrong = sum(is_wrong(decision, BY_KEY, truth, MARGIN) for decision in decisions)
        return Tally(
            self.trials + sweep.trials,
            self.decided + sum(decision.state == "decided" for decision in decisions),
            self.wrong + wrong,
            self.wrong_sweeps + (wrong > 0),
        )


def compare(
    name: str, rounds: int, make_noise: MakeNoise, tell, *, worst=False, past=False, sweeps=SWEEPS, chosen=True
) -> tuple[float, str]:
    """Simulate sweeps of both kinds over the same truths, and tell what they cost and answered.

    Returns:
        The share of the trials of fixed rounds that ours took, and in words the share of their answers that it gave.
    """
    random_ = random.Random(f"{name} {rounds} {worst} {past}")
    ours, fixed_rounds = Tally(), Tally()
    for seed in range(sweeps):
        truth = worst_truth(CASES, MARGIN) if worst else usual_truth(CASES, random_)
        earlier = make_noise(random_)
        known = {key: math.exp(log + earlier(key, 0, 0.0)) for key, log in truth.items()} if past else {}
        rule = StoppingRule(max_rounds=rounds, past=known)
        ours = ours.plus(simulate(CASES, QUESTIONS, truth, make_noise(random_), rule, seed), truth)
        fixed_rounds = fixed_rounds.plus(fixed(CASES, QUESTIONS, truth, make_noise(random_), rule), truth)
    asked = sweeps * len(QUESTIONS)
    tell(
        f"{name}, {rounds} rounds{', an earlier sweep' if past else ''}: {ours.trials / fixed_rounds.trials:.2f} of "
        f"the trials; decided {ours.decided / asked:.2f} (fixed {fixed_rounds.decided / asked:.2f}); wrong answers "
        f"{100 * ours.wrong / asked:.1f} % of questions ({100 * fixed_rounds.wrong / asked:.1f} %), in "
        f"{100 * ours.wrong_sweeps / sweeps:.0f} % of sweeps ({100 * fixed_rounds.wrong_sweeps / sweeps:.0f} %)"
    )
    # Answers of a sweep are not independent: a rule that keeps its error is far from this.
    assert not chosen or ours.wrong <= 0.05 * asked + 2 * math.sqrt(0.05 * asked)
    return ours.trials / fixed_rounds.trials, f"{ours.decided / max(fixed_rounds.decided, 1):.0%} of the answers"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_usual_answers(name, tell, goal):
    for past in (False, True):
        known = ", an earlier sweep" if past else ""
        for sigma, rounds, most, sweeps in (
            (QUIET, QUIET_ROUNDS, QUIET_GOAL, SWEEPS),
            (NOISY, NOISY_ROUNDS, NOISY_GOAL, SWEEPS // 2),
        ):
            share, answers = compare(name, rounds, partial(made_up, name, sigma), tell, past=past, sweeps=sweeps)
            goal(f"until decided, {name}{known}, {sigma:.0%}: share of trials ({answers})", [share], at_most=most)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_answers_that_are_just_beyond_the_margin(name, tell):
    for rounds, sigma in ((QUIET_ROUNDS, QUIET), (NOISY_ROUNDS, QUIET), (NOISY_ROUNDS, NOISY)):
        compare(f"worst, {name}, {sigma:.0%}", rounds, partial(made_up, name, sigma), tell, worst=True)


def test_recorded_distributions(tell):
    for path in filter(None, os.environ.get("RECORDED_STORES", "").split(":")):
        rates = newest_rates(Path(path))
        for rounds in (QUIET_ROUNDS, NOISY_ROUNDS):
            for past in (False, True):
                compare(path, rounds, partial(recorded, rates), tell, past=past, sweeps=SWEEPS // 2)


def newest_rates(path: Path) -> Mapping[str, Mapping[int, float]]:
    """By case key and round, the throughputs of the sweep with the most trials."""
    store = open_store(str(path), create=False)
    try:
        found: dict[str, dict[str, dict[int, float]]] = {}
        for sweep, key, number, name, value in store.ledger.measures(store.sweep_ids()):
            if name == "rate":
                found.setdefault(sweep, {}).setdefault(key, {})[number] = value
        return max(found.values(), key=lambda by_key: sum(map(len, by_key.values())))
    finally:
        store.close()


RULES: Mapping[str, Callable[[Looks, int], float]] = {
    "Wang and Tsiatis": Looks.level,
    "union bound": lambda looks, look: looks.error / looks.most,
    "Pocock": lambda looks, look: POCOCK[looks.most] * looks.error / 0.025,
    "Robbins' mixture": lambda looks, look: mixture_level(looks.error),
    "as if looked at once": lambda looks, look: looks.error,
}
"""By name, the one-sided level of a look."""
POCOCK = {3: 0.0110, 10: 0.0053}
"""That of each look which gives 2.5 % in all, by the number of looks."""


def mixture_level(error: float) -> float:
    """The one-sided level of the first look of a normal mixture, which is widest there relative to later ones."""
    quantile = math.sqrt(2 * math.log(math.sqrt(2) / (2 * error)) * 2)
    return 0.5 * math.erfc(quantile / math.sqrt(2))


@pytest.mark.parametrize("rule", RULES)
def test_other_rules(rule, tell, monkeypatch):
    monkeypatch.setattr(Looks, "level", RULES[rule])
    for rounds, sigma in ((QUIET_ROUNDS, QUIET), (NOISY_ROUNDS, NOISY)):
        compare(rule, rounds, partial(made_up, "normal", sigma), tell, sweeps=SWEEPS // 2, chosen=False)
        for name in ("normal", "unequal cells"):
            noise = partial(made_up, name, sigma)
            compare(f"worst, {rule}, {name}", rounds, noise, tell, worst=True, sweeps=SWEEPS // 2, chosen=False)


@pytest.mark.parametrize(("rounds", "sigma"), [(QUIET_ROUNDS, QUIET), (NOISY_ROUNDS, NOISY)])
def test_what_the_answers_of_fixed_rounds_take_at_least(rounds, sigma, tell):
    """By a rule that knows the noise and which answers fixed rounds will give, stops at the first trials that show
    them, and pays nothing for looking: no rule that has to find that out takes as few."""
    for level, quantile in (("95 %, one-sided", 1.645), ("95 %", 1.96)):
        random_ = random.Random(f"{rounds} {sigma}")
        least = decided = 0
        for _ in range(SWEEPS):
            truth = usual_truth(CASES, random_)
            logs = {key: [log + random_.gauss(0, sigma) for _ in range(rounds)] for key, log in truth.items()}
            answered = [question for question in QUESTIONS if fixed_decides(question, logs)]
            decided += len(answered)
            needed = dict.fromkeys(truth, 1)
            for question in answered:
                first = first_round_that_shows(question, logs, quantile * sigma * math.sqrt(2))
                needed |= {key: max(needed[key], first) for key in question.keys}
            least += sum(needed.values())
        share = least / (SWEEPS * len(CASES) * rounds)
        tell(
            f"{rounds} rounds of trials that scatter by {sigma:.0%}: the {decided / (SWEEPS * len(QUESTIONS)):.2f} of "
            f"the answers that fixed rounds give take {share:.2f} of the trials at least, at intervals of {level}"
        )


def fixed_decides(question: Question, logs: Mapping[str, Sequence[float]]) -> bool:
    rates = {key: [math.exp(log) for log in logs[key]] for key in question.keys}
    return fixed_answer(question, rates, math.log1p(MARGIN)).state == "decided"


def first_round_that_shows(question: Question, logs: Mapping[str, Sequence[float]], width: float) -> int:
    """After how many trials nothing is better than the answer by more than the margin; ``width``: of the first."""
    rounds = len(logs[question.keys[0]])
    for count in range(1, rounds):
        mean = {key: math.fsum(logs[key][:count]) / count for key in question.keys}
        if question.kind == "efficiency":
            base, case = question.cases
            gains = [-abs(mean[case.key] - mean[base.key] + math.log(base.ranks / case.ranks / EFFICIENCY_BAR))]
        else:
            *gains, _ = sorted(log - max(mean.values()) for log in mean.values())
        if all(gain + width / math.sqrt(count) <= math.log1p(MARGIN) for gain in gains):
            return count
    return rounds
