"""Options that change the work: a figure of what their values cost, and no word of a gain."""

from __future__ import annotations

import pytest

from reports.analysis.cells import make_cells
from reports.analysis.work_axes import work_axes
from tests.support.builders import make_case, make_trial
from tests.support.pages import figures_of, page_of


def measured(cases, step_of):
    trials = [make_trial(case, number, step_of(case) * (1 + number / 100)) for case in cases for number in range(3)]
    return make_cells(cases, {}, trials, {})


def of_widths(backends=("ddp", "horovod"), widths=(128, 1024, 2048)):
    cases = [
        make_case(backend=backend, ranks=ranks, workload_options={"width": width})
        for backend in backends
        for ranks in (1, 2)
        for width in widths
    ]
    return measured(cases, lambda case: 0.001 * case.workload_options["width"] / case.ranks)


def test_a_size_of_the_model_is_an_option_of_the_work():
    (axis,) = work_axes(of_widths())
    assert (axis.title, axis.workload) == ("width", "synthetic · strong")
    assert [line.labels.backend_and_ranks for line in axis.lines] == ["ddp/gloo, 2 ranks", "horovod/gloo, 2 ranks"]
    assert axis.lines[0].values == ("128", "1024", "2048")
    assert {cell.case.ranks for line in axis.lines for cell in line.cells} == {2}, "at the most ranks that all have"


def test_the_page_draws_throughput_over_its_values():
    page = page_of(of_widths())
    (figure,) = [shown for shown in figures_of(page) if shown.title.startswith("Throughput over")]
    assert figure.title == "Throughput over width: synthetic · strong"
    assert [series.x for series in figure.series] == [(128, 1024, 2048)] * 2
    assert figure.series[0].y == pytest.approx([8 / (0.001 * width / 2) for width in (128, 1024, 2048)], rel=0.05)
    assert figure.log_x
    assert not any("width" in answer for answer in page.answers), "no value gains over another"


def test_words_are_bars():
    cases = [
        make_case(backend=backend, workload_options={"model": model})
        for backend in ("ddp", "horovod")
        for model in ("mlp", "cnn")
    ]
    page = page_of(measured(cases, lambda case: 0.1))
    (figure,) = [shown for shown in figures_of(page) if shown.title.startswith("Throughput over")]
    assert (figure.bars, figure.categories) == (True, ("cnn", "mlp"))
    assert [series.x for series in figure.series] == [(0, 1), (0, 1)]


def test_one_value_an_option_of_the_step_and_a_program_are_no_options_of_the_work():
    alone = [make_case(workload_options={"width": 128})]
    step = [make_case(workload_options={"precision": name}) for name in ("bf16", "fp16")]
    programs = [make_case(workload="script", workload_options={"command": name}) for name in ("a.py", "b.py")]
    for cases in (alone, step, programs):
        assert work_axes(measured(cases, lambda case: 0.1)) == ()


def test_cells_that_differ_in_two_options_are_not_on_one_line():
    options = ({"width": 1, "model": "mlp"}, {"width": 2, "model": "cnn"})
    assert work_axes(measured([make_case(workload_options=each) for each in options], lambda case: 0.1)) == ()
