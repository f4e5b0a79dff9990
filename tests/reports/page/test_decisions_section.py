"""What a page and a terminal say of a sweep that went on until its questions were decided."""

from __future__ import annotations

from dataclasses import replace

from reports.analysis.decisions import Observed, StoppingRule, decide
from reports.analysis.findings import analyse_cells
from reports.formats.terminal import finding_tables
from reports.page.decisions_section import cost_text, decisions_table, sections
from reports.page.summary import answer_sentences
from tests.support.sweep_cells import sweep_cells

CELLS = sweep_cells()
"""Three trials each that scatter by 0.2 %; at two ranks backends lose 30, 50 and 70 % of a step. One has failed."""


def decisions(max_rounds: int = 4):
    observed = [
        Observed(
            cell.case,
            cell.case.key,
            {measures.round: measures.throughput for measures in cell.measures},
            2,
            3,
            is_settled=cell.outcome != "ok",
        )
        for cell in CELLS
    ]
    return decide(observed, StoppingRule(max_rounds=max_rounds))


def test_each_question_is_a_row_with_its_answer_and_what_the_others_reach_of_it():
    rows = [row for row in decisions_table(decisions(), CELLS).rows if row[0] == "synthetic"]
    by_question = {row[1]: row[2:] for row in rows}
    assert by_question["the fastest at 2 ranks"][0] == "ddp/gloo"
    assert by_question["the fastest at 2 ranks"][1].startswith("horovod/gloo: 71 % (")
    assert by_question["the fastest at 1 rank"][0] == "equivalent: ddp/gloo, horovod/gloo and dask/tasks"
    assert by_question["the peak of dask/tasks"][0] == "1 rank"
    assert by_question["dask/tasks at 2 ranks: efficiency ≥ 75 %"][0].startswith("no, 30 % (")
    assert by_question["ddp/gloo at 2 ranks: efficiency ≥ 75 %"][2] == "3"


def test_what_it_cost_is_said_where_answers_are_and_the_terms_above_the_table():
    found = decisions()
    assert "questions were decided by 72 of at most 96 trials" in cost_text(found)
    findings = replace(analyse_cells(CELLS), decisions=found)
    assert cost_text(found) in answer_sentences(findings)
    (section,) = sections(found, CELLS)
    assert "wrong with a probability of 5 % at most" in section.subtitle
    assert "as if their number had been fixed" in section.subtitle
    assert [table.caption for table in section.tables][:2] == ["mnist", "synthetic"]
    assert sum(len(table.rows) for table in section.tables) == len(decisions_table(found, CELLS).rows)
    assert len(finding_tables(findings)) > len(finding_tables(analyse_cells(CELLS)))


def test_a_question_that_was_given_up_is_told_apart_from_one_that_is_open():
    observed = [
        Observed(cell.case, cell.case.key, {0: rate, 1: rate * (1.3 if number % 4 < 2 else 0.8)}, 1, 2)
        for number, cell in enumerate(CELLS)
        if (rate := cell.rates[0] if cell.rates else None)
    ]
    for max_rounds, state in ((2, "given up"), (500, "open")):
        found = decide(observed, StoppingRule(max_rounds=max_rounds))
        answers = [row[2] for row in decisions_table(found, CELLS).rows]
        assert any(answer.startswith(f"{state}: about ") for answer in answers)
        assert (" given up." in cost_text(found)) == (state == "given up")


def observe_all(**changes) -> list[Observed]:
    return [Observed(cell.case, cell.case.key, {}, 0, 1)._replace(**changes) for cell in CELLS]


def test_questions_whose_cells_failed_are_not_counted_as_decided():
    found = decide(observe_all(is_settled=True), StoppingRule(max_rounds=4))
    text = cost_text(found)
    assert text.startswith("0 of ")
    assert text.endswith(f"; {len(found.decisions)} had nothing to compare, since cells failed.")


def test_one_question_is_told_in_the_singular_and_many_trials_with_separators():
    cells = [cell for cell in CELLS if (cell.case.workload, cell.case.ranks) == ("synthetic", 1)]
    observed = [Observed(cell.case, cell.case.key, {0: 100.0 - number}, 0, 1) for number, cell in enumerate(cells)]
    found = decide(observed, StoppingRule(max_rounds=1000))
    assert cost_text(found) == "0 of 1 question was decided by 3 of at most 3,000 trials; 1 is open."


def test_an_answer_that_was_compared_with_nothing_says_why():
    pair = [cell for cell in CELLS if (cell.case.workload, cell.case.backend) == ("synthetic", "ddp")]
    for failed_ranks, peak, efficiency in ((2, "1 rank", "the cell failed"), (1, "2 ranks", "the baseline failed")):
        observed = [
            Observed(cell.case, cell.case.key, {} if failed else {0: 100.0}, 0, 1, is_settled=failed)
            for cell in pair
            for failed in (cell.case.ranks == failed_ranks,)
        ]
        rows = decisions_table(decide(observed, StoppingRule(max_rounds=4)), pair).rows
        assert [row[2] for row in rows] == [f"{peak} (the others have no number)", f"– ({efficiency})"]


def test_questions_that_have_no_trial_left_and_those_of_an_interrupted_sweep_are_told():
    count = len(decide(observe_all(), StoppingRule(max_rounds=4)).decisions)
    assert cost_text(decide(observe_all(), StoppingRule(max_rounds=4))).endswith(f"; {count} are open.")
    exhausted = decide(observe_all(), StoppingRule(max_rounds=1))
    assert cost_text(exhausted).endswith(f"; {count} were given up.")
    one = decide(observe_all(rates={0: 100.0}), StoppingRule(max_rounds=1))
    assert any("given up (no trial is left); most likely " in row[2] for row in decisions_table(one, CELLS).rows)


def test_a_sweep_without_a_question_says_so_and_how_to_repeat_its_cases():
    cell = CELLS[0]
    found = decide([Observed(cell.case, cell.case.key, {0: 100.0}, 0, 1)], StoppingRule(max_rounds=4))
    assert cost_text(found).startswith("There is no question to decide, since no backend or rank count")
    assert "leave --until decided out" in cost_text(found)
    (section,) = sections(found, [cell])
    assert section.subtitle == cost_text(found)


def test_a_sweep_with_a_fixed_number_of_rounds_has_no_such_section():
    assert sections(None, CELLS) == ()
    assert not decisions_table(None, CELLS).rows


def test_where_cells_have_different_numbers_of_trials_it_is_said_which_rounds_a_ratio_is_of():
    def said(cells):
        found = replace(analyse_cells(cells), decisions=decisions())
        return [sentence for sentence in answer_sentences(found) if "rounds that both were in" in sentence]

    assert said(CELLS) == [], "all have three"
    fewer = tuple(cell.model_copy(update={"trials": 2}) if cell.case.backend == "dask" else cell for cell in CELLS)
    assert len(said(fewer)) == 1
