"""The page of a sweep with hundreds of workloads: a part, what was left out, and the answer over all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.analysis.answers import workload_answers
from reports.analysis.case_groups import MAX_DETAILED_CASES
from reports.analysis.findings import analyse_cells
from reports.page.elements import Section, Table
from reports.page.large_sweeps import (
    FURTHER,
    MAX_ANSWERS,
    MAX_TABLE_ROWS,
    MAX_WARNINGS,
    bounded,
    bounded_lines,
    fastest_sentence,
)
from reports.page.sweep_page import make_page
from tests.support.large_sweep import large_sweep, many_workloads

WORKLOADS = [f"work{number}" for number in range(MAX_ANSWERS + 5)]


@pytest.fixture(scope="module")
def findings():
    return analyse_cells(many_workloads(len(WORKLOADS)))


@pytest.fixture(scope="module")
def page(findings):
    return make_page("t", findings, [], [])


def test_the_chapters_are_those_of_the_first_workloads_and_the_others_are_one_table(page, findings):
    titles = [chapter.title for chapter, _ in page.chapters if chapter is not None]
    per_workload = len(findings.cells) // len(WORKLOADS)
    shown = MAX_DETAILED_CASES // per_workload
    assert [title for title in titles if title.startswith("work")] == WORKLOADS[:shown]
    (further,) = [section for section in page.sections if section.chapter == FURTHER]
    rows = further.tables[0].rows
    left = (len(WORKLOADS) - shown) * per_workload
    assert len(rows) == left <= MAX_TABLE_ROWS
    assert rows[0][0] == f"work{shown}", "each row names its workload"
    assert "rows." not in further.tables[0].note


def test_the_first_screen_has_the_first_answers_how_many_follow_and_one_over_all(page):
    assert len(page.cover.answers) == MAX_ANSWERS == len(page.cover.heat.groups)
    assert page.cover.more_answers == "5 more workloads"
    (sentence,) = page.cover.above
    assert sentence.startswith("The fastest: ddp/gloo")
    assert f"of {len(WORKLOADS)} workloads" in sentence
    assert sentence.endswith(f"Below are the first {MAX_ANSWERS} of them."), "what follows is a part"


def test_the_sentence_over_all_workloads_counts_each_once(findings):
    answers = workload_answers(findings)
    tie = replace_fastest(answers[0], ("ddp/gloo", "fsdp/gloo"))
    none = replace_fastest(answers[1], ())
    other = replace_fastest(answers[2], ("horovod/mpi",))
    first = replace_fastest(answers[3], ("ddp/gloo",))
    assert fastest_sentence([tie, none, other, *[first] * MAX_ANSWERS]) == (
        f"The fastest: ddp/gloo in {MAX_ANSWERS} of {MAX_ANSWERS + 3} workloads, horovod/mpi in 1; "
        f"statistically tied in 1; no number in 1. Below are the first {MAX_ANSWERS} of them."
    )
    assert fastest_sentence([first] * MAX_ANSWERS) is None, "each has a row"


def replace_fastest(answer, names):
    return answer.model_copy(update={"fastest": names})


def test_a_long_table_says_how_much_of_it_is_shown():
    table = Table("t", ("a",), tuple((str(number),) for number in range(MAX_TABLE_ROWS + 1)), "A note.")
    shown = bounded(Section("s", tables=(table, replace(table, rows=table.rows[:MAX_TABLE_ROWS]))))
    assert [len(each.rows) for each in shown.tables] == [MAX_TABLE_ROWS] * 2
    assert shown.tables[0].note == "The first 500 of 501 rows. `python -m harness export` writes all of them. A note."
    assert shown.tables[1].note == "A note."


def test_lines_beyond_the_limit_are_counted():
    lines = [f"line {number}" for number in range(MAX_WARNINGS + 5)]
    assert bounded_lines(lines)[-2:] == (f"line {MAX_WARNINGS - 1}", "and 5 more lines like these")
    assert bounded_lines(lines[:MAX_WARNINGS]) == tuple(lines[:MAX_WARNINGS])


def test_a_sweep_of_few_cells_is_shown_whole():
    page = make_page("t", analyse_cells(large_sweep((1, 2), collectives=False)), [], [])
    assert FURTHER not in [chapter for chapter, _ in page.chapters]
    assert page.cover.more_answers == ""
