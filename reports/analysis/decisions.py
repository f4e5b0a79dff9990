"""What a sweep has decided so far, what is still open, and which cells would help to decide it.

The questions are those of a page's first screen: which backend is fastest at each rank count, at how many ranks each
curve peaks, whether its parallel efficiency is above the bar. Each has an answer as soon as no other answer is better
by more than a margin, with a stated error (:mod:`reports.analysis.sequential`). A question that the trials that are
left are unlikely to decide is given up. Everything is a function of the trials and of what was known before them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis.case_groups import case_groups
from reports.analysis.flags import claim_problem
from reports.analysis.looks import Looks
from reports.analysis.placement import curve_family
from reports.analysis.scaling_reach import EFFICIENCY_BAR
from reports.analysis.sequential import (
    Difference,
    Logs,
    NoiseSource,
    TrialNoise,
    difference,
    trial_noise,
)

DEFAULT_MARGIN = 0.03
ERROR = 0.05
"""The probability of a wrong answer to one question, at most."""
MIN_CHANCE = 0.6
"""A question that the trials which are left are less likely to decide is given up."""
WIDEST = math.log(1e6)
"""An interval whose ends differ by a larger factor says nothing."""
NO_NUMBER = "no cell has a number"
ONE_NUMBER = "the others have no number"
BASELINE_FAILED, CELL_FAILED = "the baseline failed", "the cell failed"
NO_QUESTION = (
    "there is no question to decide, since no backend or rank count has another one to be compared with: each case "
    "runs once; leave --until decided out to repeat it"
)
NO_TRIAL_LEFT = "no trial is left"
Kind = Literal["fastest", "peak", "efficiency"]
State = Literal["decided", "open", "given_up"]
Word = Literal["slower", "equivalent", "not_faster", "open"]


class StoppingRule(FrozenModel):
    """When a sweep knows enough."""

    max_rounds: int
    """The most trials of a case."""
    margin: float = Field(DEFAULT_MARGIN, gt=0, lt=1)
    """Answers that differ by less are practically equivalent: 0.03 for 3 %."""
    error: float = ERROR
    past: dict[str, float] = Field(default={})
    """By case key, the throughput in the newest earlier sweep on the same machine."""


class Observed(NamedTuple):
    """What the trials of a case gave so far."""

    case: Case
    key: str
    """Its own key."""
    rates: Mapping[int, float]
    """By round, the throughput of each successful trial."""
    last_round: int = -1
    """The newest round in which it had a trial, with any outcome; -1: it had none yet."""
    trials: int = 0
    """How many there were, with any outcome."""
    is_settled: bool = False
    """It failed, timed out or did other work: further trials would not make it a result."""
    is_disturbed: bool = False
    """Something may have changed the speed of one of its trials (:data:`reports.analysis.conditions.MAY_DISTURB`)."""


class Rival(FrozenModel):
    """Another cell beside the answer's."""

    key: str
    word: Word
    """``slower``: for certain; ``equivalent``: within the margin in both directions; ``not_faster``: by more than the
    margin; ``open``: none of these is known."""
    ratio: float | None = None
    """Its throughput ÷ the answer's; ``None``: unknown."""
    low: float | None = None
    high: float | None = None
    """Each end holds at all looks, with the error of the question."""


class Decision(FrozenModel):
    """The answer to one question, or why it is open."""

    kind: Kind
    cells: tuple[str, ...]
    """The keys of the cells that are compared; of an efficiency the baseline and the cell."""
    ranks: int | None
    """At which backends are compared, or whose efficiency it is; ``None`` of a peak."""
    state: State
    answer: str | None
    """The key of the fastest cell, or of that at the peak; of an efficiency ``above`` or ``below``. Where it is not
    decided, the best guess; ``None``: no cell has a number."""
    rivals: tuple[Rival, ...] = ()
    """The other cells; of an efficiency the cell itself, whose ratio is the efficiency ÷ the bar."""
    rounds_needed: int | None = None
    """Where it is not decided: after how many trials of each cell it is likely to be."""
    reason: str | None = None
    """Why nothing was compared, or why it was given up where that is not for the chance to decide it."""

    @property
    def compares_nothing(self) -> bool:
        """Whether it is over because fewer than two of its cells have a number, or can still have one."""
        return self.state == "decided" and self.reason is not None


class Decisions(FrozenModel):
    """All questions of a sweep, after the trials so far."""

    rule: StoppingRule
    decisions: tuple[Decision, ...]
    trials: int
    """Those that ran."""
    max_trials: int
    """Those of cells that a question is about, as often as the rule allows, and one of each other cell."""
    needed: tuple[str, ...]
    """The keys of the cells that open questions involve, in the order of the plan."""
    noise: float | None
    """The standard deviation of the log throughput of a trial, pooled over all cells; ``None``: not known."""
    noise_source: NoiseSource
    assumed_noise: float | None
    """What was taken for it where it is not known."""


class Question(NamedTuple):
    """What is to be decided of some cases."""

    kind: Kind
    cases: tuple[Case, ...]
    keys: tuple[str, ...]
    """Those of the cases."""
    ranks: int | None = None


class _Evidence(NamedTuple):
    """What all questions are answered from."""

    observed: Mapping[str, Observed]
    logs: Mapping[str, Logs]
    noise: TrialNoise
    rule: StoppingRule
    margin: float
    """Of log throughputs."""
    round: int
    """The newest."""

    def compare(self, first: str, second: str, comparisons: int) -> Difference | None:
        """Two cells, of a question with so many comparisons. Its answer is wrong where one of them errs on one side."""
        looks = Looks(self.rule.error / max(1, comparisons), self.rule.max_rounds)
        return difference(first, second, self.logs, self.noise, looks)

    def rounds_possible(self, first: str, second: str) -> int:
        """The rounds that two cells may share in the end."""
        both_done = min(self.observed[first].last_round, self.observed[second].last_round) >= self.round
        shared = self.logs[first].keys() & self.logs[second].keys()
        return len(shared) + self.rule.max_rounds - self.round - both_done

    def is_hopeless(self, found: Difference, first: str, second: str) -> bool:
        """Whether the trials that are left are unlikely to decide between two cells."""
        rounds = self.rounds_possible(first, second)
        return self.noise.is_known and found.chance_within(self.margin, rounds) < MIN_CHANCE


def decide(observed: Sequence[Observed], rule: StoppingRule, questions: Sequence[Question] | None = None) -> Decisions:
    """Answer the questions of a sweep as far as its trials do (pure).

    Args:
        questions: Of the planned cases (:func:`questions_of`), where they are known already.
        observed: Every planned case, with the trials that have ended.
        rule: When enough is known.
    """
    by_key = {one.key: one for one in observed}
    logs = {key: {number: math.log(rate) for number, rate in one.rates.items()} for key, one in by_key.items()}
    past = {key: math.log(rate) for key, rate in rule.past.items() if key in logs}
    ranks = {one.key: one.case.ranks for one in observed}
    disturbed = any(one.is_disturbed for one in observed)
    noise = trial_noise({key: found for key, found in logs.items() if found}, ranks, past, disturbed=disturbed)
    newest = max((one.last_round for one in observed), default=0)
    evidence = _Evidence(by_key, logs, noise, rule, math.log1p(rule.margin), newest)
    asked = questions_of([one.case for one in observed]) if questions is None else questions
    more = {key for key, one in by_key.items() if one.last_round + 1 < rule.max_rounds}
    decisions = tuple(_ended(more, rule, _decide(question, evidence)) for question in asked)
    wanted = {key for decision in decisions if decision.state == "open" for key in _involved(decision)}
    return Decisions(
        rule=rule,
        decisions=decisions,
        trials=sum(one.trials for one in observed),
        max_trials=most_trials(by_key, rule, asked),
        needed=tuple(key for key, one in by_key.items() if one.last_round < 0 or key in wanted & more),
        noise=math.sqrt(noise.pooled.variance) if noise.is_known else None,
        noise_source=noise.pooled.source,
        assumed_noise=None if noise.is_known else math.sqrt(noise.pooled.variance),
    )


def most_trials(keys: Collection[str], rule: StoppingRule, questions: Sequence[Question]) -> int:
    """How many trials these cases have at most (pure): one that no question is about runs once."""
    asked = {key for question in questions for key in question.keys}
    return sum(rule.max_rounds if key in asked else 1 for key in keys)


def _ended(more: Collection[str], rule: StoppingRule, decision: Decision) -> Decision:
    """The decision; given up where it is open and none of the cells that would help, ``more``, has a trial left."""
    if decision.state == "open" and set(_involved(decision)).isdisjoint(more):
        decision = decision.model_copy(update={"state": "given_up", "reason": NO_TRIAL_LEFT})
    if decision.state == "given_up" and decision.rounds_needed is not None:
        # As many as the rule allows were not enough, or are unlikely to be.
        needed = max(decision.rounds_needed, rule.max_rounds + 1)
        decision = decision.model_copy(update={"rounds_needed": needed})
    return decision


def _involved(decision: Decision) -> Iterator[str]:
    """The cells whose trials would help to decide an open question."""
    if decision.kind == "efficiency":
        yield from decision.cells
    elif decision.answer is not None:
        yield decision.answer
    yield from (rival.key for rival in decision.rivals if rival.word == "open")


def questions_of(cases: Sequence[Case]) -> tuple[Question, ...]:
    """The questions about the cases of a plan, those with an injected fault left out."""
    return tuple(_questions(cases))


def _questions(cases: Sequence[Case]) -> Iterator[Question]:
    sound = [case for case in cases if case.fault is None]
    for group in case_groups(sound):
        for ranks in sorted({case.ranks for case in group}):
            rivals = [case for case in group if case.ranks == ranks]
            fair = [case for case in rivals if claim_problem(case.flags) is None] or rivals
            if len(fair) > 1:
                yield _question("fastest", fair, ranks)
        for curve in _curves(group):
            yield _question("peak", curve)
            for case in curve[1:]:
                yield _question("efficiency", (curve[0], case), case.ranks)


def _question(kind: Kind, cases: Sequence[Case], ranks: int | None = None) -> Question:
    return Question(kind, tuple(cases), tuple(case.key for case in cases), ranks)


def _curves(group: Sequence[Case]) -> Iterator[tuple[Case, ...]]:
    """The cases of each curve that feed a scaling claim, the fewest ranks first; at least two."""
    fair = [case for case in group if claim_problem(case.flags) is None]
    alone = {curve_family(case): case for case in fair if case.ranks == 1}
    curves: dict[str, list[Case]] = {}
    for case in fair:
        curves.setdefault(case.curve, []).append(case)
    for cases in curves.values():
        ordered = sorted(cases, key=lambda case: case.ranks)
        base = alone.get(curve_family(ordered[0]))
        if ordered[0].ranks > 1 and ordered[0].ranks_per_node and base is not None:
            ordered = [base, *ordered]
        if len(ordered) > 1:
            yield tuple(ordered)


def _decide(question: Question, evidence: _Evidence) -> Decision:
    keys = question.keys
    empty = Decision(kind=question.kind, cells=keys, ranks=question.ranks, state="decided", answer=None)
    settled = [key for key in keys if evidence.observed[key].is_settled]
    if question.kind == "efficiency":
        return _efficiency(empty, question, evidence, settled)
    return _best(empty, [key for key in keys if key not in settled], evidence)


def _best(empty: Decision, keys: Sequence[str], evidence: _Evidence) -> Decision:
    """Which of several cells has the highest throughput."""
    measured = [key for key in keys if evidence.logs[key]]
    waiting = tuple(Rival(key=key, word="open") for key in keys if key not in measured)
    if not measured:
        reason = None if waiting else NO_NUMBER
        return empty.model_copy(update={"state": "open" if waiting else "decided", "rivals": waiting, "reason": reason})
    answer = _leader(measured, evidence)
    rivals, chances = [], []
    for key in measured:
        if key == answer:
            continue
        found = evidence.compare(key, answer, len(keys) - 1)
        rivals.append(_rival(key, found, evidence.margin))
        if found is not None and rivals[-1].word == "open":
            chances.append((found.rounds_needed(evidence.margin), evidence.is_hopeless(found, key, answer)))
    is_open = bool(waiting) or any(rival.word == "open" for rival in rivals)
    hopeless = any(lost for _, lost in chances) and not waiting
    return empty.model_copy(
        update={
            "state": "decided" if not is_open else "given_up" if hopeless else "open",
            "answer": answer,
            "rivals": (*rivals, *waiting),
            "rounds_needed": max((rounds for rounds, _ in chances), default=None) if evidence.noise.is_known else None,
            "reason": ONE_NUMBER if len(keys) == 1 < len(empty.cells) else None,
        }
    )


def _leader(keys: Sequence[str], evidence: _Evidence) -> str:
    """The cell that is beaten by the least, over the rounds that it shares with each other one."""

    def worst(key: str) -> float:
        own = evidence.logs[key]
        gains = []
        for other in keys:
            theirs = evidence.logs[other]
            shared = own.keys() & theirs.keys()
            if other != key and shared:
                gains.append(math.fsum(own[number] - theirs[number] for number in shared) / len(shared))
        return min(gains, default=-math.inf)

    return max(keys, key=worst)


def _efficiency(empty: Decision, question: Question, evidence: _Evidence, settled: Sequence[str]) -> Decision:
    """Whether the efficiency of a cell is above the bar."""
    (base, case), (base_key, key) = question.cases, question.keys
    if settled:
        failed = BASELINE_FAILED if base_key in settled else CELL_FAILED
        return empty.model_copy(update={"reason": NO_NUMBER if len(settled) > 1 else failed})
    found = None
    if evidence.logs[base_key] and evidence.logs[key]:
        found = evidence.compare(key, base_key, 1)
    if found is None:
        return empty.model_copy(update={"state": "open"})
    found = found.shifted(math.log(base.ranks / case.ranks / EFFICIENCY_BAR))
    is_above = found.value >= 0
    # As for the fastest: the answer is beaten by nothing else by more than the margin.
    rival = _rival(key, found.reversed() if is_above else found, evidence.margin)
    is_open = rival.word == "open"
    hopeless = is_open and evidence.is_hopeless(found, base_key, key)
    return empty.model_copy(
        update={
            "state": "decided" if not is_open else "given_up" if hopeless else "open",
            "answer": "above" if is_above else "below",
            "rivals": (_rival(key, found, evidence.margin).model_copy(update={"word": rival.word}),),
            "rounds_needed": found.rounds_needed(evidence.margin) if is_open and evidence.noise.is_known else None,
        }
    )


def _rival(key: str, found: Difference | None, margin: float) -> Rival:
    if found is None:
        return Rival(key=key, word="open")
    word: Word = "open"
    if found.high < 0:
        word = "slower"
    elif found.high <= margin:
        word = "equivalent" if found.low >= -margin else "not_faster"
    if found.high - found.low > WIDEST:
        return Rival(key=key, word=word, ratio=math.exp(found.value))
    return Rival(key=key, word=word, ratio=math.exp(found.value), low=math.exp(found.low), high=math.exp(found.high))
