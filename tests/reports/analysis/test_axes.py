"""The axes of a sweep: which settings they are, and what a value gains over the base."""

from __future__ import annotations

import pytest

from reports.analysis.axes import compare_axes, find_axes, value_on
from reports.analysis.case_groups import MAX_CURVES
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells, group_cells
from reports.formats.terminal import cell_tables
from reports.page.axes_section import axis_sentence, axis_table
from reports.page.plotly_charts import plotly_figure
from tests.support.builders import make_case, make_trial
from tests.support.pages import figures_of, page_of


def measured(cases, step_of):
    """Cells of three trials each, whose step takes ``step_of(case)`` seconds, give or take 1 %."""
    trials = [make_trial(case, number, step_of(case) * (1 + number / 100)) for case in cases for number in range(3)]
    return make_cells(cases, {}, trials, {})


def accumulating(step_of=lambda case: 0.1 / (2 if case.workload_options else 1)):
    cases = [
        make_case(workload_options=options, ranks=ranks, backend=backend)
        for options in ({}, {"accumulate": 2})
        for backend in ("ddp", "horovod")
        for ranks in (1, 2)
    ]
    return measured(cases, step_of)


def test_a_value_is_compared_with_the_default_at_each_rank_count():
    (comparison,) = compare_axes(accumulating())
    axis = comparison.axis
    assert (axis.key, axis.values, axis.base, axis.base_is_default) == (
        "workload.synthetic.accumulate",
        ("1", "2"),
        "1",
        True,
    )
    gains = [(point.case.backend, point.case.ranks, point.value, point.gain.value) for point in comparison.points]
    assert gains == [
        (backend, ranks, value, pytest.approx(gain))
        for backend in ("ddp", "horovod")
        for ranks in (1, 2)
        for value, gain in (("1", 1.0), ("2", 2.0))
    ]
    assert all(point.gain.low < 2 < point.gain.high for point in comparison.points if point.value == "2")
    assert all(point.gain.low is None for point in comparison.points if point.value == "1")


def test_the_sentence_names_the_values_the_default_too():
    (comparison,) = compare_axes(accumulating())
    sentence = axis_sentence(comparison)
    assert sentence.startswith("accumulate=2 against 1 (the default): 2.00× (")
    assert "at 1 rank, 2.00× (" in sentence
    assert "at 2 ranks (synthetic, ddp/gloo; 2.00× in 1 other)" in sentence


def test_an_option_of_what_follows_the_window_gains_nothing():
    cases = [make_case(workload_options=options) for options in ({}, {"checkpoint": "async"})]
    cells = make_cells(cases, {}, [make_trial(case) for case in cases], {})
    assert [axis.title for axis in find_axes(cases)] == ["checkpoint"]
    assert compare_axes(cells) == ()


def test_a_variable_is_compared_with_its_absence():
    (axis,) = find_axes([make_case(env={"OMP_WAIT_POLICY": value}) for value in ("active", "")])
    assert (axis.base, axis.base_is_default) == ("unset", False)


def test_the_batch_is_an_axis_without_a_default():
    (axis,) = find_axes([make_case(batch=batch, ranks=ranks) for batch in (128, 64) for ranks in (1, 2)])
    assert (axis.key, axis.values, axis.base, axis.base_is_default) == ("batch", ("64", "128"), "64", False)


def test_numbers_are_in_the_order_of_their_values():
    (axis,) = find_axes([make_case(batch=batch) for batch in (8, 1024, 64, 256)])
    assert axis.values == ("8", "64", "256", "1024")


@pytest.mark.parametrize(
    "options",
    [{"model": "transformer"}, {"hidden": 2048}],
    ids=["another model", "another size"],
)
def test_other_work_is_no_axis(options):
    cases = [make_case(workload_options=chosen) for chosen in ({}, options)]
    assert find_axes(cases) == ()
    assert len(group_cells(measured(cases, lambda case: 0.1))) == 2


def test_reading_by_more_processes_and_the_defaults_of_a_user_s_file_are_axes():
    chosen = [{"accumulate": 4}, {"accumulate": 1}, {"accumulate": 4, "workers": 2}]
    axes = find_axes([make_case(workload="lm", workload_options=options) for options in chosen])
    assert [(axis.key, axis.values, axis.base_is_default) for axis in axes] == [
        ("workload.lm.accumulate", ("1", "4"), False),
        ("workload.lm.workers", ("0", "2"), True),
    ]


def test_a_default_is_that_of_the_workload():
    chosen = ({}, {"workers": 0}, {"workers": 2})
    (axis,) = find_axes([make_case(workload="mnist", workload_options=options) for options in chosen])
    assert (set(axis.values), axis.base_title) == ({"none", "0", "2"}, "none (the default)")


def test_what_differs_in_two_settings_is_not_compared():
    assert find_axes([make_case(batch=8), make_case(batch=16, workload_options={"accumulate": 2})]) == ()


def test_an_option_of_a_backend_is_no_axis_of_another():
    cases = [make_case(backend_options={"static_graph": True}), make_case(), make_case(backend="horovod")]
    (comparison,) = compare_axes(measured(cases, lambda case: 0.1))
    assert {point.case.backend for point in comparison.points} == {"ddp"}
    assert comparison.axis.values == ("false", "true")
    assert value_on(cases[2], "backend.ddp.static_graph") is None


def test_the_default_of_a_backend_that_came_with_the_case_is_not_asked_of_its_code():
    from bench.core.case import PluginSource

    source = PluginSource(kind="backend", name="ddp", file="x.py", digest="d", attribute="BACKEND", text="raise Exit")
    case = make_case(plugins=(source,))
    assert value_on(case, "backend.ddp.static_graph") == "default"


def test_a_failed_cell_leaves_a_reason_in_place_of_a_gain():
    cases = [make_case(), make_case(workload_options={"accumulate": 2})]
    trials = [make_trial(cases[0]), make_trial(cases[1], outcome="failed", reason="rank 1 died", ranks=())]
    (comparison,) = compare_axes(make_cells(cases, {}, trials, {}))
    (base, failed) = comparison.points
    assert base.gain is not None
    assert failed.gain is None
    assert failed.reason == "accumulate=2 is failed: 1 of 1 trials: rank 1 died"
    assert axis_sentence(comparison) == (
        "accumulate: nothing can be compared with 1 (the default); the table says why."
    )
    assert "rank 1 died" in axis_table(comparison).rows[1][-1]


def test_values_of_an_axis_share_a_heading_and_are_named_in_it():
    (group,) = group_cells(accumulating())
    assert group.title == "synthetic"
    assert {cell.labels.backend for cell in group.cells} == {
        f"{backend}/gloo (accumulate={value})" for backend in ("ddp", "horovod") for value in (1, 2)
    }
    assert len(cell_tables(accumulating())) == 1


def test_the_batch_is_named_by_the_curves_where_it_differs():
    (group,) = group_cells(measured([make_case(batch=8), make_case(batch=16)], lambda case: 0.1))
    assert "batch" not in group.conditions
    assert [cell.labels.backend for cell in group.cells] == ["ddp/gloo (batch=8)", "ddp/gloo (batch=16)"]


def test_more_curves_than_a_figure_holds_have_headings_of_their_own():
    cases = [make_case(batch=8 * (number + 1)) for number in range(MAX_CURVES + 1)]
    assert len(group_cells(measured(cases, lambda case: 0.1))) == MAX_CURVES + 1


def test_cells_without_an_axis_are_as_before():
    cells = measured([make_case(ranks=ranks) for ranks in (1, 2)], lambda case: 0.1 / case.ranks)
    (group,) = group_cells(cells)
    assert group.cells == cells
    assert analyse_cells(cells).axes == ()


def test_the_page_has_one_figure_for_an_axis_and_draws_each_curve_in_a_style():
    page = page_of(accumulating())
    (section,) = [section for section in page.sections if section.title == "Over an axis"]
    (figure,) = section.figures
    assert [series.name for series in figure.series] == [
        "ddp/gloo: accumulate=2",
        "horovod/gloo: accumulate=2",
    ]
    assert (figure.ideal, plotly_figure(figure)["data"][-1]["name"]) == ("one", "no gain")
    assert axis_sentence(compare_axes(accumulating())[0]) in page.answers


def test_throughput_is_drawn_over_the_values_of_an_axis_of_numbers():
    cases = [
        make_case(batch=batch, ranks=ranks, backend=backend)
        for backend in ("ddp", "horovod")
        for ranks in (1, 2)
        for batch in (8, 16, 64)
    ]
    page = page_of(measured(cases, lambda case: 0.1 * (1 + case.batch / 64) / case.ranks))
    (figure,) = [shown for shown in figures_of(page) if shown.title.startswith("Throughput over batch")]
    assert [series.name for series in figure.series] == ["ddp/gloo, 2 ranks", "horovod/gloo, 2 ranks"]
    assert {series.x for series in figure.series} == {(8, 16, 64)}
    expected = [8 / (0.1 * (1 + batch / 64) / 2) for batch in (8, 16, 64)]
    assert figure.series[0].y == pytest.approx(expected, rel=0.05)
    assert figure.log_x, "the values span a factor of eight"
    assert figure.series[0].style != figure.series[1].style


@pytest.mark.parametrize("values", [("none", "full", "half"), (1, 2)])
def test_words_and_two_values_have_no_curve_over_them(values):
    option = "compile" if isinstance(values[0], str) else "accumulate"
    page = page_of(measured([make_case(workload_options={option: value}) for value in values], lambda case: 0.1))
    assert not any(shown.title.startswith("Throughput over") for shown in figures_of(page))


def test_a_variable_of_the_ranks_is_an_axis():
    cases = [make_case(env=env) for env in ({"NCCL_PROTO": "LL"}, {"NCCL_PROTO": "Simple"}, {"NCCL_PROTO": ""}, {})]
    (axis,) = find_axes(cases)
    assert (axis.title, axis.values, axis.base) == (
        "NCCL_PROTO",
        ("LL", "Simple", "as inherited", "unset"),
        "as inherited",
    )
    (group,) = group_cells(measured(cases, lambda case: 0.1))
    assert {cell.labels.backend for cell in group.cells} == {
        f"ddp/gloo (NCCL_PROTO={value})" for value in ("LL", "Simple", "unset", "as inherited")
    }


def test_an_argument_of_a_program_is_an_axis():
    cases = [
        make_case(
            workload="script",
            backend="torchrun",
            transport="none",
            batch=1,
            ranks=ranks,
            workload_options={"command": "train.py --batch {batch}", "batch": batch},
        )
        for batch in (32, 64)
        for ranks in (1, 2)
    ]
    (comparison,) = compare_axes(measured(cases, lambda case: 0.1))
    assert (comparison.axis.title, comparison.axis.values, comparison.axis.base) == ("batch", ("32", "64"), "32")
    assert [point.case.ranks for point in comparison.points] == [1, 1, 2, 2]


def test_other_commands_are_other_work():
    cases = [
        make_case(workload="script", backend="torchrun", batch=1, workload_options={"command": command})
        for command in ("train.py", "other.py")
    ]
    assert find_axes(cases) == ()
