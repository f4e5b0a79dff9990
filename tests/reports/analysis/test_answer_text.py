from __future__ import annotations

import pytest

from bench.core.records import Condition
from reports.analysis.answer_text import (
    answer_sentence,
    efficient_to_detail,
    efficient_to_text,
    fastest_text,
    next_steps,
    outcome_text,
    peak_text,
)
from reports.analysis.answers import PROGRAM_DATA, Cause, workload_answers
from reports.analysis.bottleneck import EXPOSED, TERM_TITLES
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.analysis.trust import MORE_TRIALS
from tests.reports.analysis.test_answers import amdahl, answer_of, cells_of
from tests.support.builders import make_case, make_trial

LOADED = Condition(name="host_load", seen="here: other processes kept 1.20 of 2 cores busy")


def test_a_whole_answer_in_one_line():
    sentence = answer_sentence(answer_of({"ddp": amdahl(0.1, (1, 2, 4, 8))}))
    assert sentence.startswith("synthetic: fastest: ddp/gloo at 8 ranks, ")
    assert "; efficiency ≥ 75 % to 4 ranks (77 % (77–77 %), 59 % (59–59 %) at 8 ranks); " in sentence
    assert sentence.endswith("; trust high: same work, 3 trials a cell, intervals within ± 0.5 %.")


def test_backends_that_are_tied_are_named_with_their_ranks():
    noisy = (0.8, 1.0, 1.25)
    same = answer_of({"ddp": {2: 0.06}, "horovod": {2: 0.061}}, repeats=noisy)
    assert fastest_text(same) == "statistically tied: ddp/gloo and horovod/gloo at 2 ranks"
    mixed = answer_of({"single": {1: 0.06}, "ddp": {2: 0.061}}, repeats=noisy)
    assert fastest_text(mixed) == "statistically tied: single at 1 rank and ddp/gloo at 2 ranks"


def test_a_reach_names_its_backend_where_another_is_the_fastest():
    answer = answer_of({"single": {1: 0.01}, "ddp": {1: 0.1, 2: 0.09}})
    assert efficient_to_text(answer) == "ddp/gloo: 1 rank"
    assert peak_text(answer) == "ddp/gloo: ≥ 2 ranks"
    assert efficient_to_detail(answer).startswith("56 % (55–56 %) at 2 ranks")


def test_of_backends_that_are_tied_a_reach_says_which_is_meant():
    tied = answer_of({"ddp": {1: 0.1, 2: 0.06}, "horovod": {1: 0.1, 2: 0.061}}, repeats=(0.8, 1.0, 1.25))
    assert len(tied.fastest) == 2
    assert tied.scaled == tied.fastest[0] == "ddp/gloo"
    assert efficient_to_text(tied).startswith("ddp/gloo: ")


def test_one_rank_count_says_nothing_of_scaling():
    sentence = answer_sentence(answer_of({"ddp": {2: 0.06}}))
    assert not any(word in sentence for word in ("scal", "efficiency", "peak", "rank count"))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "nothing was planned"), (1, "1 cell, all ok: nothing failed or was skipped")]
)
def test_outcomes_without_a_problem(count, text):
    assert outcome_text(cells_of({"ddp": {1: 0.1}})[:count]) == text


def test_what_failed_comes_first_in_what_to_do_next():
    cases = [make_case(ranks=ranks) for ranks in (1, 2, 4)]
    trials = [make_trial(case, number, 0.1) for case in cases[:2] for number in range(3)]
    trials.append(make_trial(cases[2], outcome="failed", reason="rank 3 ended"))
    cells = make_cells([*cases, make_case(backend="dask")], {make_case(backend="dask").key: "no dask"}, trials, {})
    assert outcome_text(cells) == "2 of 4 cells ok, 1 failed, 1 skipped"
    first, *_ = next_steps(workload_answers(analyse_cells(cells)), cells)
    assert first == "see why 1 cell failed, under Failed and skipped, and run again"


def test_nothing_has_to_be_done_about_an_answer_that_is_sure_and_ends():
    cells = cells_of({"ddp": {1: 0.1, 2: 0.09}})
    assert next_steps(workload_answers(analyse_cells(cells)), cells) == ["nothing has to be done"]


@pytest.mark.parametrize(
    ("repeats", "conditions", "reason", "step"),
    [
        ((0.7, 1.4), (), "from 2 trials", "raise --repeats"),
        ((0.6, 1.0, 1.7), (LOADED,), "noisy host: other processes used its cores", "free the cores, or measure later"),
        ((0.6, 1.0, 1.7), (), "", MORE_TRIALS),
    ],
)
def test_a_wide_interval_comes_with_what_made_it_wide_and_a_remedy_that_fits(repeats, conditions, reason, step):
    # --budget belongs to --precision, which was not given.
    cells = cells_of({"ddp": {2: 0.06}}, repeats=repeats, conditions=conditions)
    (answer,) = workload_answers(analyse_cells(cells))
    assert answer.trust.word == "low"
    assert answer.trust.reason.startswith("the interval of ddp/gloo at 2 ranks is ")
    assert answer.trust.reason.endswith(reason)
    assert next_steps([answer], cells)[0] == step


def test_a_program_is_not_told_to_use_options_of_workloads_and_backends():
    answer = answer_of({"ddp": {1: 0.1, 2: 0.09}})
    cause = Cause(name=TERM_TITLES[EXPOSED], share=0.4, of="a step", ranks=2, backend="ddp/gloo")
    own, theirs = (answer.model_copy(update={"cause": cause, "data": data}) for data in ("generated", PROGRAM_DATA))
    assert any("--batch" in step for step in next_steps([own], ()))
    assert not any("--batch" in step or "--set" in step for step in next_steps([theirs], ()))


def test_few_trials_ask_for_more_and_name_the_workload_only_where_not_all_are_meant():
    cells = (*cells_of({"ddp": {1: 0.1, 2: 0.09}}, repeats=(1.0,)),)
    assert "raise --repeats" in next_steps(workload_answers(analyse_cells(cells)), cells)
