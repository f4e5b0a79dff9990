"""What cells and answers say where a sweep went on until its questions were decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.analysis.answers import workload_answers
from reports.analysis.cells import make_cells
from reports.analysis.decided_cells import trust_by_decisions, with_settled_flags
from reports.analysis.decisions import Observed, StoppingRule, decide
from reports.analysis.findings import analyse_cells
from tests.support.builders import make_case, make_trial

STEP_S = {("ddp", 1): 0.10, ("ddp", 2): 0.09, ("horovod", 1): 0.10, ("horovod", 2): 0.08}
"""The backends are equal at one rank; at two horovod is the faster one."""
CASES = {key: make_case(backend=key[0], ranks=key[1], batch=128) for key in STEP_S}


def answer_of(trials: int, rounds: int = 9, noise: float = 0.001):
    """The answer of a workload after so many trials of each cell, which scatter by ``noise``."""
    every = [
        make_trial(case, number, STEP_S[key] * (1 + noise * ((7 * number + 3 * place) % 5 - 2)))
        for place, (key, case) in enumerate(CASES.items())
        for number in range(trials)
    ]
    cells = with_settled_flags(make_cells(tuple(CASES.values()), {}, every, {}))
    observed = [
        Observed(
            cell.case, cell.case.key, {one.round: one.throughput for one in cell.measures}, trials - 1, cell.trials
        )
        for cell in cells
    ]
    past = {one.key: one.rates[0] * (1 + noise) for one in observed}
    decisions = decide(observed, StoppingRule(max_rounds=rounds, past=past))
    (answer,) = workload_answers(replace(analyse_cells(cells), decisions=decisions))
    return answer, decisions, cells


def test_a_cell_of_one_trial_was_settled_and_its_answer_is_trusted_by_what_was_decided():
    answer, decisions, cells = answer_of(1)
    assert {decision.state for decision in decisions.decisions} == {"decided"}
    assert all("settled" in cell.flags and "few_trials" not in cell.flags for cell in cells)
    assert answer.fastest == ("horovod/gloo",)
    assert answer.fastest_reason is None
    assert answer.trust.word == "high"
    assert answer.trust.reason.endswith("decided, each with an error of 5 % at most")
    alone = workload_answers(analyse_cells(cells))[0]
    assert (alone.trust.word, "one trial" in alone.trust.reason) == ("low", True), "of a fixed number of rounds"


def test_an_answer_with_a_question_that_is_not_decided_is_trusted_less_and_names_the_remedy():
    answer, decisions, _ = answer_of(2, rounds=2, noise=0.05)
    undecided = sum(decision.state != "decided" for decision in decisions.decisions)
    assert undecided
    assert answer.trust.word == "limited"
    assert f"{undecided} of" in answer.trust.reason
    assert answer.trust.remedy == "raise --max-repeats"


@pytest.mark.parametrize("flag", ["host_load", "injected"])
def test_what_disturbed_the_numbers_weighs_more_than_what_was_decided(flag):
    _, decisions, cells = answer_of(1)
    disturbed = tuple(cell.with_flag(flag) for cell in cells)
    (answer,) = workload_answers(replace(analyse_cells(disturbed), decisions=decisions))
    assert answer.trust.word in ("limited", "low")
    assert "decided" not in answer.trust.reason


def test_an_answer_without_a_question_is_trusted_by_its_trials_and_names_a_remedy_that_helps():
    case = CASES["ddp", 1]
    for outcome, others in (("ok", ()), ("failed", (CASES["horovod", 1],))):
        trials = [make_trial(case, 0, 0.1), *(make_trial(other, 0, 0.1, outcome=outcome) for other in others)]
        cells = with_settled_flags(make_cells((case, *others), {}, trials, {}))
        observed = [
            Observed(
                cell.case,
                cell.case.key,
                {one.round: one.throughput for one in cell.measures},
                0,
                1,
                is_settled=cell.outcome != "ok",
            )
            for cell in cells
        ]
        decisions = decide(observed, StoppingRule(max_rounds=5))
        trust = trust_by_decisions(cells[:1], decisions)
        assert (trust.word, trust.reason) == ("low", "one trial: no interval")
        assert trust.remedy == "sweep without --until decided"
