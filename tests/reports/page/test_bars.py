"""What a page without curves shows: bars with intervals in place of curves of one point, and no word of scaling."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from bench.core.step_measures import MessageTiming
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells, group_cells
from reports.formats.terminal import cell_tables
from reports.page.bars import bars_for_points
from reports.page.figure_axes import ideal_line
from reports.page.html import render
from reports.page.layout import FigureLayout, wrap_labels
from reports.page.plotly_charts import plotly_figure
from reports.page.plotly_library import whole_library
from reports.page.styles import series_styles
from reports.page.svg import figure_svg
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import figure, figures_of, page_of, series

BACKENDS = ("single", "ddp", "horovod", "dask")
STEPS_S = {"single": 0.1, "ddp": 0.11, "horovod": 0.125, "dask": 0.2}


def cells_at(*rank_counts, backends=BACKENDS):
    cases = [make_case(backend=backend, ranks=ranks) for backend in backends for ranks in rank_counts]
    trials = [
        make_trial(case, number, STEPS_S[case.backend] * (1 + number / 100)) for case in cases for number in range(3)
    ]
    return make_cells(cases, {}, trials, {})


def throughput_of(page):
    return next(shown for shown in figures_of(page) if shown.title == "Throughput")


def test_one_rank_count_is_bars_over_backends_with_intervals():
    bars = throughput_of(page_of(cells_at(1)))
    assert bars.bars
    assert bars.categories == tuple(f"{backend}/gloo" for backend in BACKENDS)
    assert bars.x_title == "at 1 rank"
    for place, (drawn, backend) in enumerate(zip(bars.series, BACKENDS, strict=True)):
        assert drawn.x == (place,)
        assert drawn.y[0] == pytest.approx(8 / STEPS_S[backend], rel=0.02)
        assert drawn.low[0] < drawn.y[0] < drawn.high[0]
    assert (bars.log_x, bars.log_y, bars.ideal) == (False, False, None)


def test_several_rank_counts_are_curves_of_the_same_colours():
    curves, bars = throughput_of(page_of(cells_at(1, 2))), throughput_of(page_of(cells_at(2)))
    assert not curves.bars
    colours = [[style.colour for style in series_styles(shown)] for shown in (curves, bars)]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == len(BACKENDS)


def test_backends_of_different_rank_counts_are_bars_that_name_them():
    """``single`` runs on one rank and ``ddp`` on two: no line joins them."""
    cases = [make_case(backend="single", transport="none", ranks=1), make_case(ranks=2)]
    trials = [make_trial(case, number, 0.1) for case in cases for number in range(2)]
    page = page_of(make_cells(cases, {}, trials, {}))
    assert throughput_of(page).categories == ("single at 1 rank", "ddp/gloo at 2 ranks")
    assert page.sections[0].subtitle.startswith("1 or 2 ranks · global batch 8")


def test_bars_with_long_names_are_rows_so_that_the_names_are_whole():
    names = [f"{backend}/nccl (compile=none): precision=bf16" for backend in BACKENDS]
    curves = [series(name, (1,), (1.2,), number) for number, name in enumerate(names)]
    bars = bars_for_points(figure(curves=curves, ideal="one"))
    layout = FigureLayout(bars)
    assert layout.rows
    assert ["".join(lines).replace(" ", "") for lines in layout.labels] == [name.replace(" ", "") for name in names]
    assert len(ideal_line(bars)) == len(names)


def test_one_message_size_is_bars_and_two_are_curves():
    def shown(*sizes):
        case = make_case(workload="allreduce", ranks=2, scaling="weak", batch=1)
        messages = tuple(MessageTiming(message_bytes=size, times_s=(0.001, 0.0011)) for size in sizes)
        records = tuple(make_record(rank, 2, kind="collective", unit="bytes", messages=messages) for rank in range(2))
        page = page_of(make_cells([case], {}, [make_trial(case, ranks=records)], {}))
        return [one for one in figures_of(page) if one.title in ("Bus bandwidth", "Time")]

    for one in shown(2**20):
        assert (one.bars, one.x_title, one.categories) == (True, "at 1 MiB", ("ddp/gloo, 2 ranks",))
    assert not any(one.bars for one in shown(2**10, 2**20))


def test_a_line_through_one_prediction_is_a_bar():
    """A line of one point without a marker shows nothing at all."""
    made = bars_for_points(figure(curves=[series("ddp: predicted", (64,), (9.0,), 0, (8,), (10,), mark="fitted")]))
    assert made.bars
    assert made.x_title == "at 64 ranks"
    assert plotly_figure(made)["data"][0]["type"] == "bar"


@pytest.mark.parametrize(
    "made",
    [
        figure(curves=[series("a", (1, 2), (1, 2)), series("b", (1,), (1,))]),
        figure(curves=[series("a", (0.5,), (1,), mark="line")], window=(0.0, 1.0)),
        figure(curves=[series("a", (0,), (1,), mark="markers")], categories=("n1",)),
        figure(curves=[]),
    ],
    ids=["a curve and a point", "samples over time", "categories", "nothing"],
)
def test_other_figures_stay_as_they_are(made):
    assert bars_for_points(made) is made


@pytest.mark.parametrize("ranks", [1, 2])
def test_nothing_is_said_of_scaling_where_there_is_one_rank_count(ranks, capsys):
    from rich.console import Console

    cells = cells_at(ranks)
    html = render(make_page("t", analyse_cells(cells), [], []), whole_library())
    main = re.sub(r"<script.*?</script>", "", html[html.index("<main>") :], flags=re.DOTALL)
    Console(width=120).print(*cell_tables(cells, 120))
    for text in (main, capsys.readouterr().out):
        said = re.sub(r"speed-up and efficiency start from the smallest rank count", "", text)
        assert not re.search(r"scaling|speed-up|efficiency|· strong|over ranks", said, re.IGNORECASE)
        assert f"{ranks} rank" in text


def test_a_sweep_whose_larger_rank_counts_all_failed_is_bars_too():
    cases = [make_case(backend=backend, ranks=ranks) for backend in BACKENDS for ranks in (1, 2)]
    trials = [
        make_trial(case, number, outcome="failed", reason="exit 1", ranks=())
        if case.ranks > 1
        else make_trial(case, number)
        for case in cases
        for number in range(2)
    ]
    page = page_of(make_cells(cases, {}, trials, {}))
    assert throughput_of(page).bars
    assert not re.search("scaling|speed-up", " ".join(page.answers), re.IGNORECASE)
    assert "speed-up (95 %)" not in page.table("All cells").header


def test_scaling_is_spoken_of_where_there_are_two():
    (group,) = group_cells(cells_at(1, 2))
    assert group.conditions.startswith("strong scaling · ")
    assert {"speed-up (95 %)", "efficiency (95 %)"} <= set(page_of(group.cells).table("All cells").header)


def bars(curves, categories, **more):
    return figure(curves=curves, categories=categories, bars=True, **more)


GROUPED = bars(
    [
        series("host", range(3), (3, 2, 1), 0, (2.5, 1.5, 0.5), (3.5, 2.5, 1.5)),
        series("device", range(3), (1, 2, 3), 1),
    ],
    ("ddp", "dask", "single"),
)


def boxes(made):
    """``(left, right, top)`` of each bar in pixels, in drawing order."""
    paths = [
        path.get("d") for path in ElementTree.fromstring(figure_svg(made)).iter("path") if path.get("fill-opacity")
    ]
    found = re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)", "".join(paths))
    return [(float(left), float(right), float(top)) for left, _, right, top in found]


def test_bars_of_one_category_are_side_by_side_and_from_zero():
    layout, drawn = FigureLayout(GROUPED), boxes(GROUPED)
    host, device = drawn[:3], drawn[3:]
    for place, (left, right) in enumerate(zip(host, device, strict=True)):
        assert (
            layout.place(place - 0.5, 0)[0]
            < left[0]
            < left[1]
            <= right[0] + 0.2
            < right[1]
            < layout.place(place + 0.5, 0)[0]
        )
    assert [top for *_, top in host] == pytest.approx([layout.place(0, y)[1] for y in (3, 2, 1)], abs=0.1)
    assert layout.y.low == 0


def test_the_live_figure_has_the_bars_and_intervals_of_the_static_one():
    host, device = plotly_figure(GROUPED)["data"]
    assert host["type"] == device["type"] == "bar"
    assert (host["error_y"]["array"], host["error_y"]["arrayminus"]) == ([0.5] * 3, [0.5] * 3)
    assert "error_y" not in device
    layout = FigureLayout(GROUPED)
    for trace, drawn in ((host, boxes(GROUPED)[:3]), (device, boxes(GROUPED)[3:])):
        lefts = [layout.place(x - trace["width"] / 2, 0)[0] for x in trace["x"]]
        assert lefts == pytest.approx([left for left, *_ in drawn], abs=0.3)


def test_bars_side_by_side_differ_without_colour_and_a_bar_alone_is_named_by_its_axis():
    assert len({style.pattern for style in series_styles(GROUPED)}) == 2
    alone = bars([series("ddp", (0,), (3,), 0), series("dask", (1,), (2,), 1)], ("ddp", "dask"))
    assert {style.pattern for style in series_styles(alone)} == {""}


def test_an_oversubscribed_bar_is_hollow():
    made = bars([series("ddp", (0, 1), (3, 2), hollow=(False, True))], ("a", "b"))
    shown = [path.get("fill-opacity") for path in ElementTree.fromstring(figure_svg(made)).iter("path")]
    assert [float(value) for value in shown if value][1] == 0
    assert plotly_figure(made)["data"][0]["marker"]["color"][1].endswith(", 0.0)")


def test_a_name_is_broken_after_its_slash_where_it_does_not_fit_otherwise():
    assert wrap_labels(("horovod/nccl", "ddp/nccl"), 8) == [("horovod/", "nccl"), ("ddp/nccl",)]
    assert wrap_labels(("ddp/nccl a", "b"), 8) == [("ddp/nccl", "a"), ("b",)]
    assert wrap_labels(("horovod/nccl",), 7) == []
