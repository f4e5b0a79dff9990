"""The page of a check: the verdict on top, a figure for what is no plain pass, drawn against the accepted level."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from reports.page.check_page import MAX_FIGURES, MAX_NIGHTS, make_check_page, night_figure
from reports.page.elements import Figure
from reports.page.html import render
from reports.page.layout import FigureLayout
from reports.page.plotly_charts import plotly_figure
from reports.page.plotly_library import PlotlyJs
from reports.regression.values import MetricSeries, NightTrials
from tests.support import judgements
from tests.support.judgements import CNN, MLP, MNIST, at, nights, of, verdict

LIBRARY = PlotlyJs("a stand-in", "window.Plotly = {};")


@pytest.fixture(scope="module")
def page():
    return make_check_page(judgements.everything(), judgements.history())


def figures(page) -> list[Figure]:
    return [one for section in page.sections for one in section.figures]


def named(made: Figure, name: str):
    return next(one for one in made.series if one.name.startswith(name))


def test_the_verdict_stands_on_top(page):
    assert page.title == "Nightly check: regressed"
    assert page.answers[0].startswith("3 of 54 series regressed: ddp/gloo mlp lost 10.4 %")
    assert "7 in 31,000 checks" in page.answers[2]
    assert any("--accept" in one for one in page.warnings)


def test_the_table_has_the_worst_first_and_all_series_are_there(page):
    assert [row[0] for row in page.table("Findings").rows][:4] == ["regressed", "regressed", "failed", "missing"]
    assert len(page.table("All series").rows) == 54


def test_a_finding_has_a_figure_of_each_series_and_what_passed_has_none(page):
    sections = [section for section in page.sections if section.figures]
    assert [len(section.figures) for section in sections] == [1, 2, 1, 1, 1, 1, 1]
    assert [one.title for one in sections[1].figures] == ["2 ranks: efficiency", "4 ranks: efficiency"]
    assert not any("bench_0" in one.title for one in figures(page))


def test_keys_are_unique_and_plotly_knows_all_of_it(page):
    import plotly.graph_objects as go

    keys = [one.key for one in figures(page)]
    assert len(keys) == len(set(keys))
    for one in figures(page):
        go.Figure(plotly_figure(one))


def test_throughput_falls_where_it_got_worse(page):
    """Its logs have their sign turned."""
    made = figures(page)[0]
    assert -0.14 < named(made, "newest night").y[0] < -0.05
    pairs = named(made, "pairs")
    assert (*pairs.low, *pairs.y, *pairs.high) == pytest.approx((-0.118, -0.104, -0.089))
    assert made.categories[-2:] == ("09-30", "pairs")
    assert "-10.4 % (-11.8 to -8.9 %), slower, after 16 interleaved pairs" in made.caption
    assert made.table.rows[0][0] == "20260930-030000-ab12"
    assert made.table.rows[0][-1] == "newest"


def test_an_accepted_change_is_a_break_and_what_came_before_lies_apart():
    series = nights("a", changed=1.0, accepted_at=17)
    made = night_figure("f", series, verdict("a", "suspect"))
    before, after = (one for one in made.series if one.name.startswith("night"))
    assert before.x == tuple(map(float, range(17)))
    assert after.x == tuple(map(float, range(17, 29)))
    assert max(before.y) < -0.1
    assert abs(sum(after.y) / len(after.y)) < 0.02


def test_the_level_is_that_of_good_nights():
    past = [NightTrials(night=str(n), logs=(0.0, 0.0)) for n in range(4)]
    past += [NightTrials(night=str(n), logs=(0.5, 0.5), good=False) for n in range(4, 14)]
    newest = NightTrials(night="14", logs=(0.0,))
    made = night_figure("f", MetricSeries(name="a", past=tuple(past), newest=newest), verdict("a", "inconclusive"))
    assert named(made, "newest night").y == (0.0,)
    assert named(made, "trial").hollow == (False,) * 8 + (True,) * 20 + (False,)
    assert "Hollow" in made.caption


def test_only_the_last_nights_are_drawn_and_that_is_said():
    made = night_figure("f", nights("a", count=1000), verdict("a", "regressed"))
    assert len(made.categories) == MAX_NIGHTS
    assert "The last 30 of 1,001 nights." in made.caption


def test_many_nights_are_dated_evenly_up_to_the_last():
    made = night_figure("f", nights("a", count=29), verdict("a", "regressed"))
    dates = [name for _, name in FigureLayout(made).x.ticks]
    assert len(dates) <= 16
    assert dates[-2:] == ["09-28", "09-30"]
    cases = dataclasses.replace(made, x_title="case")
    assert len(FigureLayout(cases).x.ticks) == 30


def test_nights_of_one_day_are_told_apart_by_the_time():
    past = tuple(NightTrials(night=f"20261003-{hour:02}1500-abcd", logs=(0.1,)) for hour in range(3))
    assert night_figure("f", MetricSeries(name="a", past=past), verdict("a", "missing")).categories == (
        "10-03 00:15",
        "10-03 01:15",
        "10-03 02:15",
    )


@pytest.mark.parametrize("logs", [(), (float("nan"),), (float("inf"), -float("inf"))])
def test_without_a_number_there_is_no_figure(logs):
    past = (NightTrials(night="1", logs=logs),)
    assert night_figure("f", MetricSeries(name="a", past=past, newest=past[0]), verdict("a", "failed")) is None


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("step", 0.0042, "4.20 ms"),
        ("throughput", 8000.0, "8,000"),
        ("memory", 412e6, "412 MB"),
        ("energy", 0.021, "21.0 mJ"),
        ("efficiency", 0.81, "81.0 %"),
        ("serial", math.exp(0.031), "3.1 %"),
        ("exposed", math.exp(0.4), "40.0 %"),
    ],
)
def test_each_metric_has_its_unit(metric, value, shown):
    series = nights("a", metric, value=value, changed=1.0, noise=0.0)
    assert night_figure("f", series, verdict("a", "suspect", metric)).table.rows[0][2] == shown


def test_a_thousand_regressions_make_a_page_of_a_dozen_figures():
    judgement = judgements.thousand()
    html = render(make_check_page(judgement, [nights(one.name) for one in judgement.verdicts[:40]]), LIBRARY)
    assert html.count('class="chart"') == MAX_FIGURES
    assert "<summary>Findings, 1,000 rows</summary>" in html


@pytest.mark.parametrize("judgement", [judgements.nothing(), judgements.numberless(), of(*judgements.passes(20))])
def test_a_page_is_made_of_little(judgement):
    assert "Nightly check:" in render(make_check_page(judgement, ()), LIBRARY)


def test_no_name_becomes_markup():
    judgement = judgements.odd()
    html = render(make_check_page(judgement, [nights(name) for name in judgements.ODD]), LIBRARY)
    html.encode()
    assert "<img" not in html
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", html)


def test_series_are_matched_by_name_and_metric():
    judgement = of(verdict(at(MNIST, 2), "suspect", "memory"))
    assert not figures(make_check_page(judgement, [nights(at(MNIST, 2), "step"), nights(at(CNN, 2), "memory")]))
    assert figures(make_check_page(judgement, [nights(at(MNIST, 2), "memory"), nights(at(MLP, 2), "memory")]))
