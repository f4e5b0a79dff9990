"""The first screen of a page, as values: whatever was swept, it has an answer."""

from __future__ import annotations

import pytest

from bench.core.program import Program
from reports.analysis.cells import make_cells
from reports.page.cover import MAX_PROBLEM_LENGTH, MAX_PROBLEMS
from reports.page.html import render
from reports.page.plotly_library import PlotlyJs
from tests.support.builders import make_case, make_program_record, make_trial
from tests.support.pages import page_of
from tests.support.sweep_cells import sweep_page

PROGRAM = Program(script="train.py", folder="/p", working_directory="/p", digest="d", files={"train.py": ""})
LIBRARY = PlotlyJs("none", "")
"""Of a page that no browser opens."""


@pytest.fixture(scope="module")
def cover():
    return sweep_page().cover


def columns(cover):
    return [answer.title for answer in cover.answers[0]]


def cover_of(cases, trials, skipped=None):
    return page_of(make_cells(cases, skipped or {}, trials, {})).cover


def test_a_row_a_workload_says_which_how_far_why_and_how_sure(cover):
    assert [row[0].text for row in cover.answers] == ["mnist", "synthetic", "array_mean", "my_lm"]
    workload, fastest, scales, peak, why, trust = cover.answers[0]
    assert workload.detail.endswith("data: scikit-learn digits, a stand-in for MNIST")
    assert fastest.text == "ddp/gloo at 2 ranks"
    assert (scales.text, scales.detail) == ("1 rank", "70 % (70–70 %) at 2 ranks")
    assert peak.text == "≥ 2 ranks"
    assert (why.text, why.detail) == ("exposed communication: 30 %", "of a step of ddp/gloo at 2 ranks")
    assert (trust.text, trust.level) == ("limited", "fair")
    assert trust.detail == "noisy host: other processes used its cores"


def test_what_all_workloads_have_in_common_is_said_once(cover):
    facts = dict(cover.facts)
    assert facts["all workloads"] == "strong scaling · global batch 128 · 1 thread per rank · cpu"
    assert facts["measured"] == "2026-11-27 04:39 UTC"
    assert not any("strong" in row[0].detail for row in cover.answers)


def test_the_efficiency_table_has_numbers_and_marks(cover):
    mnist, *_, own = cover.heat.groups
    name, (base, two) = mnist.rows[0]
    assert (name, base.text, base.mark) == ("ddp/gloo", "base", "•")
    assert (two.text, two.level, two.mark) == ("70 %", "fair", "◆")
    _, (_, failed) = own.rows[-1]
    assert (failed.text, failed.mark, failed.reason) == ("failed", "✕", "1 of 1 trials: rank 1: out of memory")
    assert {level for level, _, _ in cover.heat.legend} == {"fair", "poor", "base", "bad"}


def test_failures_next_steps_and_the_command_are_there(cover):
    assert cover.outcome == "23 of 24 cells ok, 1 failed"
    assert cover.problems == ("my_lm · dask/tasks · 2 ranks failed: 1 of 1 trials: rank 1: out of memory",)
    assert cover.steps[0] == "see why 1 cell failed, under Failed and skipped, and run again"
    assert cover.commands == ("python -m harness sweep --ranks 1,2",)


def test_of_many_and_long_reasons_the_first_are_shown_and_the_others_counted():
    cases = [make_case(ranks=ranks) for ranks in (1, 2, 3, 4, 5)]
    skipped = {case.key: f"{case.ranks} " * 300 for case in cases}
    cover = cover_of(cases, [], skipped)
    assert (len(cover.problems), cover.more_problems) == (MAX_PROBLEMS, "2 more reasons")
    assert {len(problem) for problem in cover.problems} == {MAX_PROBLEM_LENGTH}
    assert cover.outcome == "0 of 5 cells ok, 5 skipped"
    assert [answer.text for answer in cover.answers[0]][-1] == "none"


def test_one_rank_count_has_throughputs_and_no_word_of_scaling():
    cases = [make_case(backend=backend) for backend in ("ddp", "horovod")]
    cover = cover_of(cases, [make_trial(case, number, 0.1) for case in cases for number in range(3)])
    assert columns(cover) == ["workload", "fastest", "trust"]
    assert cover.heat.caption == "Throughput by ranks"
    assert [cells[0].text for _, cells in cover.heat.groups[0].rows] == ["80.0 samples/s"] * 2
    assert cover.heat.legend == ()


def test_one_cell_and_nothing_at_all_have_a_first_screen():
    assert cover_of([make_case()], [make_trial(make_case())]).answers[0][1].text == "ddp/gloo at 2 ranks"
    page = page_of(())
    assert (page.cover.answers, page.cover.outcome) == ((), "nothing was planned")
    assert "nothing was planned" in render(page, LIBRARY)


def test_a_program_is_named_by_its_command():
    options = {"command": "train.py --epochs 1"}
    case = make_case(workload="script", workload_options=options, backend="torchrun", transport="any", program=PROGRAM)
    trial = make_trial(case, ranks=tuple(make_program_record(rank, 2) for rank in range(2)))
    workload, fastest, *_ = cover_of([case], [trial]).answers[0]
    assert workload.text == "train.py --epochs 1"
    assert workload.detail.endswith("data: the program's own")
    assert fastest.text == "torchrun at 2 ranks"


def test_a_hundred_cells_fit_and_print_the_first_rows():
    cases = [make_case(workload_options={"width": width}, ranks=ranks) for width in range(50) for ranks in (1, 2)]
    trials = [make_trial(case, number, 0.1 / case.ranks) for case in cases for number in range(2)]
    page = page_of(make_cells(cases, {}, trials, {}))
    assert page.cover.answers[7][0].text == "synthetic (width=7)"
    html = render(page, LIBRARY)
    assert html.count('<tr role="row" class="later">') == 50 - page.cover.printed
    assert f"{50 - page.cover.printed} more workloads are in their sections." in html
