"""Made-up and recorded distributions of trials, and sweeps over them whose true answers are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.core.case import Case
from harness.sweep.until_decided import next_round
from reports.analysis.decisions import (
    Decision,
    Decisions,
    Observed,
    Question,
    Rival,
    StoppingRule,
    decide,
)
from reports.analysis.scaling_reach import EFFICIENCY_BAR
from reports.analysis.stats import Estimate, ratio
from tests.support.builders import make_case

Noise = Callable[[str, int, float], float]
"""The log of what a trial of a case, in a round, at a time between 0 and 1 of the fixed sweep, deviates by."""
Truth = Mapping[str, float]
"""By case key, its log throughput."""


def quick_cases() -> tuple[Case, ...]:
    """The cases of the quick suite on two cores."""
    cases = [
        make_case(workload=workload, backend=backend, transport=transport, ranks=ranks, batch=128)
        for workload in ("mnist", "synthetic", "array_mean")
        for backend, transport in (("single", "none"), ("ddp", "gloo"), ("horovod", "gloo"), ("dask", "tasks"))
        for ranks in (1, 2)
        if backend != "single" or ranks == 1
    ]
    collectives = [
        make_case(workload="allreduce", backend=backend, transport=transport, ranks=2, scaling="weak", batch=1)
        for backend, transport in (("ddp", "gloo"), ("horovod", "gloo"), ("dask", "tasks"))
    ]
    return (*cases, *collectives)


def usual_truth(cases: Sequence[Case], random_: random.Random) -> Truth:
    """Backends that differ by 0 to 5 %, or by much, and efficiencies from 40 to 100 %."""
    truth = {}
    for case in cases:
        cost = {"single": 0.0, "ddp": random_.uniform(0, 0.05), "horovod": random_.uniform(0, 0.1)}
        lost = cost.get(case.backend, random_.uniform(0.1, 1.0))
        scaled = math.log(case.ranks * random_.uniform(0.4, 1.0)) if case.ranks > 1 else 0.0
        truth[case.key] = scaled - lost
    return truth


def worst_truth(cases: Sequence[Case], margin: float) -> Truth:
    """Everything lies just beyond the margin of the other answer: where a wrong one is likeliest."""
    step = 1.02 * math.log1p(margin)
    rank = {"single": 0.0, "ddp": -step, "horovod": -step, "dask": -step}
    return {
        case.key: rank[case.backend] + (math.log(case.ranks * EFFICIENCY_BAR) - step if case.ranks > 1 else 0.0)
        for case in cases
    }


def made_up(name: str, sigma: float, random_: random.Random) -> Noise:
    """A distribution of trials by its name in :data:`DISTRIBUTIONS`; ``sigma``: their standard deviation, about."""
    return DISTRIBUTIONS[name](sigma, random_)


def _normal(sigma: float, random_: random.Random) -> Noise:
    return lambda key, number, time: random_.gauss(0, sigma)


def _heavy(sigma: float, random_: random.Random) -> Noise:
    """Student's t with 3 degrees of freedom."""

    def draw(key: str, number: int, time: float) -> float:
        chi_square = random_.gammavariate(1.5, 2.0)
        return sigma / math.sqrt(3) * random_.gauss(0, 1) / math.sqrt(chi_square / 3)

    return draw


def _shared(sigma: float, random_: random.Random) -> Noise:
    """All trials of a round are faster or slower by 3 sigma, and each by sigma."""
    offsets: dict[int, float] = {}

    def draw(key: str, number: int, time: float) -> float:
        return offsets.setdefault(number, random_.gauss(0, 3 * sigma)) + random_.gauss(0, sigma)

    return draw


def _drifting(sigma: float, random_: random.Random) -> Noise:
    """Slower and slower, by 4 sigma from the first trial to the last of a fixed sweep."""
    return lambda key, number, time: random_.gauss(0, sigma) - 4 * sigma * time


def _unequal(sigma: float, random_: random.Random) -> Noise:
    """Cells whose noise differs by a factor of 2 or so in both directions."""
    own: dict[str, float] = {}

    def draw(key: str, number: int, time: float) -> float:
        return random_.gauss(0, own.setdefault(key, sigma * math.exp(random_.gauss(-0.25, 0.7))))

    return draw


def _bimodal(sigma: float, random_: random.Random) -> Noise:
    """One trial of six is slower by 4 sigma."""
    return lambda key, number, time: random_.gauss(0, sigma / 2) - (4 * sigma if random_.random() < 1 / 6 else 0)


def _asymmetric(sigma: float, random_: random.Random) -> Noise:
    """Trials are slower than the best by an exponential time."""
    return lambda key, number, time: -random_.expovariate(1 / sigma)


DISTRIBUTIONS: Mapping[str, Callable[[float, random.Random], Noise]] = {
    "normal": _normal,
    "heavy tails": _heavy,
    "shared by a round": _shared,
    "drifting": _drifting,
    "unequal cells": _unequal,
    "bimodal": _bimodal,
    "one-sided": _asymmetric,
}


def recorded(rates: Mapping[str, Mapping[int, float]], random_: random.Random) -> Noise:
    """The deviations of a recorded sweep: those that its rounds shared, and those of trials of equal rank counts.

    Args:
        rates: Throughputs by case key and round.
        random_: Draws with replacement.
    """
    logs = {key: {number: math.log(rate) for number, rate in of_case.items()} for key, of_case in rates.items()}
    level = {key: math.fsum(of_case.values()) / len(of_case) for key, of_case in logs.items() if len(of_case) > 1}
    by_round: dict[int, list[float]] = {}
    for key in level:
        for number, log in logs[key].items():
            by_round.setdefault(number, []).append(log - level[key])
    shared = {number: math.fsum(some) / len(some) for number, some in by_round.items()}
    own: dict[str, list[float]] = {}
    for key in level:
        # The residuals of a few trials are smaller than their errors.
        scale = math.sqrt(len(logs[key]) / (len(logs[key]) - 1))
        own.setdefault(_rank_count(key), []).extend(
            scale * (log - level[key] - shared[number]) for number, log in logs[key].items()
        )
    drawn: dict[int, float] = {}

    def draw(key: str, number: int, time: float) -> float:
        offset = drawn.setdefault(number, random_.choice(list(shared.values())))
        return offset + random_.choice(own[_rank_count(key)])

    return draw


def _rank_count(key: str) -> str:
    return key.rpartition("ranks=")[2].partition("/")[0]


class SimulatedSweep(NamedTuple):
    """What a sweep answered, and at what cost."""

    decisions: Decisions
    trials: int


def simulate(
    cases: Sequence[Case],
    questions: Sequence[Question],
    truth: Truth,
    noise: Noise,
    rule: StoppingRule,
    seed: int,
) -> SimulatedSweep:
    """A sweep until its questions are decided."""
    rates: dict[str, dict[int, float]] = {case.key: {} for case in cases}
    last = dict.fromkeys(rates, -1)
    most = len(cases) * rule.max_rounds
    trials = 0
    while True:
        observed = [Observed(case, key, rates[key], last[key]) for case, key in zip(cases, rates, strict=True)]
        found = next_round(observed, rule, seed, questions)
        if found is None:
            return SimulatedSweep(decide(observed, rule, questions), trials)
        for case in found.cases if found.number == 0 else found.cases[:1]:
            rates[case.key][found.number] = math.exp(truth[case.key] + noise(case.key, found.number, trials / most))
            last[case.key] = found.number
            trials += 1


def fixed(
    cases: Sequence[Case],
    questions: Sequence[Question],
    truth: Truth,
    noise: Noise,
    rule: StoppingRule,
) -> SimulatedSweep:
    """A sweep of ``rule.max_rounds`` rounds, whose questions are answered by Welch's 95 % intervals of each pair."""
    rates: dict[str, list[float]] = {case.key: [] for case in cases}
    most = len(cases) * rule.max_rounds
    trials = 0
    for number in range(rule.max_rounds):
        for case in cases:
            rates[case.key].append(math.exp(truth[case.key] + noise(case.key, number, trials / most)))
            trials += 1
    decisions = [fixed_answer(question, rates, math.log1p(rule.margin)) for question in questions]
    none = decide([], rule, ())
    return SimulatedSweep(none.model_copy(update={"decisions": tuple(decisions)}), trials)


def fixed_answer(question: Question, rates: Mapping[str, Sequence[float]], margin: float) -> Decision:
    """What the trials of fixed rounds say of a question by the intervals of each pair alone."""
    keys = list(question.keys)
    if question.kind == "efficiency":
        base, case = question.cases
        found = ratio(rates[case.key], rates[base.key], factor=base.ranks / case.ranks / EFFICIENCY_BAR)
        is_above = found.value >= 1
        rivals = [_fixed_rival(case.key, found, margin, sign=-1 if is_above else 1)]
        answer = "above" if is_above else "below"
    else:
        answer = max(keys, key=lambda key: math.fsum(map(math.log, rates[key])))
        rivals = [_fixed_rival(key, ratio(rates[key], rates[answer]), margin) for key in keys if key != answer]
    is_open = any(rival.word == "open" for rival in rivals)
    return Decision(
        kind=question.kind,
        cells=tuple(keys),
        ranks=question.ranks,
        state="open" if is_open else "decided",
        answer=answer,
        rivals=tuple(rivals),
    )


def _fixed_rival(key: str, found: Estimate, margin: float, sign: int = 1) -> Rival:
    low, high = math.log(found.low or 0.0), math.log(found.high or 0.0)
    low, high = (low, high) if sign > 0 else (-high, -low)
    if high < 0:
        return Rival(key=key, word="slower")
    if high <= margin:
        return Rival(key=key, word="equivalent" if low >= -margin else "not_faster")
    return Rival(key=key, word="open")


def is_wrong(decision: Decision, cases: Mapping[str, Case], truth: Truth, margin: float) -> bool:
    """Whether something that a decided question says is false: its answer is worse than another by more than the
    margin, a cell is said to be slower and is not, or equivalent and differs by more than the margin."""
    limit = math.log1p(margin)
    if decision.state != "decided" or decision.answer is None:
        return False
    if decision.kind == "efficiency":
        base, case = (cases[key] for key in decision.cells)
        gain = truth[case.key] - truth[base.key] + math.log(base.ranks / case.ranks / EFFICIENCY_BAR)
        gains = [(decision.rivals[0].word, -gain if decision.answer == "above" else gain)]
    else:
        gains = [(rival.word, truth[rival.key] - truth[decision.answer]) for rival in decision.rivals]
    return any(
        gain > limit or (word == "slower" and gain >= 0) or (word == "equivalent" and gain < -limit)
        for word, gain in gains
    )
