from __future__ import annotations

import pytest

from bench.core.same_work import SameWork
from bench.core.step_measures import MessageTiming
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.page.plotly_charts import plotly_figure
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import figures_of, page_of

SAME = SameWork(verdict="same", deviation=4e-7, tolerance=1e-3, label="float32")


def cells_of_a_sweep():
    cases = [make_case(backend=backend, ranks=ranks) for backend in ("ddp", "horovod") for ranks in (1, 2)]
    trials = [
        make_trial(case, number, (0.1 + number / 1000) / case.ranks**0.5, same_work=SAME)
        for case in cases
        for number in range(3)
    ]
    bad = make_case(backend="dask", transport="tasks", ranks=2)
    trials.append(
        make_trial(
            bad,
            outcome="invalid",
            reason="not the same work: </script><b>x",
            same_work=SameWork(verdict="different", deviation=1.0, tolerance=1e-3, label="float32", reason="off"),
        )
    )
    collective = make_case(workload="allreduce", ranks=2, scaling="weak", batch=1)
    records = tuple(
        make_record(
            rank,
            2,
            kind="collective",
            unit="bytes",
            messages=(
                MessageTiming(message_bytes=1024, times_s=(0.001,)),
                MessageTiming(message_bytes=2**20, times_s=(0.01,)),
            ),
        )
        for rank in range(2)
    )
    trials.append(make_trial(collective, ranks=records))
    skipped = make_case(backend="single", transport="none", ranks=1)
    every = [*cases, bad, collective, skipped]
    return make_cells(every, {skipped.key: "torch not installed: pip install torch"}, trials, {bad.key: "otherwise"})


@pytest.fixture(scope="module")
def page():
    never = [(make_case(backend="single", transport="none"), "single is one rank by definition")]
    return make_page(
        "Scaling report: <test>", analyse_cells(cells_of_a_sweep()), never, [("command", "python -m harness sweep")]
    )


def test_answers_are_first(page):
    first, *_ = page.cover.answers
    assert [answer.text for answer in first[:2]] == ["synthetic", "statistically tied"]
    assert any("skipped: torch not installed" in warning for warning in page.warnings)


def test_figures_have_a_caption_and_their_numbers(page):
    figures = figures_of(page)
    steps = "Step times by rank"
    assert [figure.title for figure in figures] == [
        "Throughput",
        "Speed-up",
        "Efficiency",
        steps,
        "Bus bandwidth",
        "Time",
        steps,
    ]
    for figure in figures:
        assert figure.caption
        # A row has the median and the slowest step of a rank; bus bandwidth and time share a table.
        points = max(len(series.x) for series in figure.series if series.mark != "fitted")
        backends = len({series.name for series in figure.series if series.mark == "points"}) or 1
        assert len(figure.table.rows) == points * backends


def test_an_invalid_cell_shows_no_number(page):
    row = next(row for row in page.table("All cells").rows if row[1] == "dask/tasks")
    assert row[4] == "–"
    assert row[9] == "invalid"
    figures = figures_of(page)
    assert all("dask" not in series.name for figure in figures for series in figure.series)


def test_the_same_work_table_has_backends_by_ranks(page):
    assert page.table("Same work").header == ("workload", "backend", "scaling", "1 rank", "2 ranks")
    shown = {row[1]: row[3:] for row in page.table("Same work").rows}
    assert shown["ddp/gloo"][1].startswith("same, 4e-07 of 0.001 allowed (float32)")
    assert shown["dask/tasks"][1].startswith("DIFFERENT")


def test_different_implementations_and_skips_are_listed(page):
    assert page.table("Different implementations").rows == (("synthetic", "dask/tasks", "otherwise"),)
    assert page.table("Combinations").rows[0][3] == "single is one rank by definition"


def test_a_curve_of_four_rank_counts_is_fitted_and_drawn():
    cases = [make_case(ranks=ranks) for ranks in (1, 2, 4, 8)]
    # Amdahl with a serial share of a tenth, and repeats that differ by a thousandth.
    trials = [
        make_trial(case, number, 0.1 * (0.1 + 0.9 / case.ranks) * (1 + number / 1000))
        for case in cases
        for number in range(3)
    ]
    page = page_of(make_cells(cases, {}, trials, {}))
    (row,) = page.table("Scaling laws").rows
    assert row[1] == "Amdahl"
    assert row[2].startswith("10 % (")
    assert row[5].startswith("10 %")
    throughput = page.sections[0].figures[0]
    (fitted,) = [series for series in throughput.series if series.mark == "fitted"]
    assert (fitted.name, fitted.x[0], fitted.x[-1]) == ("ddp/gloo: Amdahl", 1, pytest.approx(8))
    measured = throughput.series[0]
    assert fitted.y[-1] == pytest.approx(measured.y[-1], rel=0.01)
    drawn = plotly_figure(throughput)
    assert [trace["mode"] for trace in drawn["data"]] == ["lines+markers", "lines"]
    assert drawn["layout"]["xaxis"]["tickvals"] == [1.0, 2.0, 4.0, 8.0]


def test_two_rank_counts_are_too_few_for_a_law(page):
    reason = "a scaling law needs 3 rank counts, there are 2"
    assert [(row[0], row[1], row[-1]) for row in page.table("Scaling laws").rows] == [
        (f"{backend}/gloo", f"none: {reason}", f"too_few_points: {reason}") for backend in ("ddp", "horovod")
    ]
