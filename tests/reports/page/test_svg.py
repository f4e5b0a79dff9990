"""Static figures: well-formed, all of a figure in them, thin where there is much; and the axes they share."""

from __future__ import annotations

import dataclasses
import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from reports.page.dodge import dodge_series
from reports.page.figure_axes import x_axis, y_axis
from reports.page.layout import FigureLayout
from reports.page.plotly_charts import plotly_figure
from reports.page.rank_axes import with_rank_axis
from reports.page.spans import Span, spans
from reports.page.styles import series_styles
from reports.page.svg import CAPPED_NAME, extra_swatches, figure_svg
from reports.page.svg_series import downsample
from tests.support import pages
from tests.support.pages import figure, series

FIGURES = [figure for section in pages.everything().sections for figure in section.figures]


def numbers(path):
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", path)]


def drawn(made):
    return ElementTree.fromstring(figure_svg(made))


def labels(made):
    return ["".join(text.itertext()) for text in drawn(made).iter("text")]


@pytest.mark.parametrize("made", FIGURES, ids=lambda made: made.key)
def test_every_kind_of_figure_is_well_formed_and_inside_its_box(made):
    picture = drawn(made)
    ids = [element.get("id") for element in picture.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(name.startswith(made.key) for name in ids)
    used = re.findall(r"url\(#([^)]+)\)", figure_svg(made))
    assert set(used) <= set(ids)
    width = float(picture.get("viewBox").split()[2])
    for text in picture.iter("text"):
        if text.get("x"):
            assert 0 <= float(text.get("x")) <= width


def test_points_are_at_their_values():
    made = figure(curves=[series("a", (0, 10), (0, 100))], x_title="time (s)")
    x, y = x_axis(made), y_axis(made)
    (line,) = [path for path in drawn(made).iter("path") if path.get("stroke-width") == "2"]
    x0, y0, x1, y1 = numbers(line.get("d"))
    assert (x1 - x0) / (10 / (x.high - x.low)) == pytest.approx(370 - 14 - 52, rel=0.01)
    assert (y0 - y1) / (100 / (y.high - y.low)) == pytest.approx(290 - 26 - 10, rel=0.01)


def test_layers_of_bars_stand_on_each_other():
    made = pages.parts()
    boxes = [numbers(path.get("d")) for path in drawn(made).iter("path") if path.get("fill", "").startswith("#")]
    # M left foot H right V top H left: the first bar of each layer.
    feet, tops = [box[1] for box in boxes], [box[3] for box in boxes]
    assert feet[1:] == tops[:-1]
    assert all(top < foot for foot, top in zip(feet, tops, strict=True))


def test_curves_of_one_backend_differ_by_more_than_colour():
    styles = series_styles(pages.bandwidth())
    assert len({style.colour for style in styles}) == 1
    assert len({style.dash for style in styles}) == len({style.marker for style in styles}) == 3


@pytest.mark.parametrize("mark", ["points", "line", "fitted", "markers"])
def test_no_two_of_four_curves_look_alike_without_colour(mark):
    styles = series_styles(
        figure(curves=[series(str(n), (1, 2), (1, 2), style, mark=mark) for n, style in enumerate((0, 8, 0, 6))])
    )
    known = [style.marker if mark in ("points", "markers") else style.dash for style in styles]
    assert len(set(known)) == 4


def test_a_long_line_is_thinned_and_keeps_its_peaks():
    y = [0.0] * 5000
    y[1234], y[4321] = 9.0, -7.0
    curve = series("a", range(5000), y, mark="line")
    kept = downsample(curve, x_axis(figure(curves=[curve])), 75)
    assert len(kept) <= 152
    assert {1234, 4321} <= set(kept)
    assert len(figure_svg(figure(curves=[curve]))) < 4000


def test_a_curve_of_many_points_is_a_line_with_a_band():
    x = range(500)
    curve = series("a", x, x, 0, [0.9 * v for v in x], [1.1 * v for v in x])
    hollow = series("a", x, x, 0, hollow=[True] * 500)
    assert "<marker" not in figure_svg(figure(curves=[curve]))
    assert "fill-opacity" in figure_svg(figure(curves=[curve]))
    assert "<marker" in figure_svg(figure(curves=[hollow]))
    trace, band = plotly_figure(figure(curves=[curve]))["data"]
    assert trace["mode"] == "lines"
    assert "error_y" not in trace
    assert len(band["x"]) == 500, "each point of it stands for two intervals"
    assert (band["y"][0], band["y"][-1]) == (1.1, 0), "the higher and the lower end of the first two"


def test_rank_counts_are_ticks_and_labels_do_not_overlap():
    assert [name for _, name in x_axis(pages.speedup()).ticks] == ["1", "2", "4", "8", "16"]
    many = figure(curves=[series("a", range(1, 65), range(1, 65))])
    places = [x_axis(many).at(x) for x, _ in x_axis(many).ticks]
    assert all(right - left > 0.03 for left, right in pairwise(places))


def test_bytes_are_ticked_in_powers_of_two_and_bandwidth_in_decades():
    made = pages.bandwidth()
    assert [name for _, name in x_axis(made).ticks] == ["2 KiB", "16 KiB", "128 KiB", "1 MiB", "8 MiB", "64 MiB"]
    assert {name for _, name in y_axis(made).ticks} >= {"10M", "100M", "1G"}


def test_shares_are_per_cent_and_categories_are_named():
    assert "40 %" in labels(pages.telemetry())
    assert labels(pages.parts())[-3:] == ["ddp, 1", "ddp, 2", "ddp, 4"]
    assert "mnist · ddp/gloo · strong" in " ".join(labels(pages.trials()))


OPTIONS = ("ddp/gloo (accumulate=1, precision=bf16), 2", "ddp/gloo (accumulate=4, precision=bf16), 2")


def test_names_that_fit_on_a_phone_are_below_their_bars_in_lines():
    layout = FigureLayout(
        figure(curves=[series("a", range(3), (1, 2, 3))], categories=("ddp/gloo, 2", "ddp", "fsdp, 4"))
    )
    assert not layout.rows
    assert layout.labels == [("ddp/gloo,", "2"), ("ddp",), ("fsdp, 4",)]


ROWS = figure(
    curves=[series("a", range(12), range(1, 13), low=range(12), high=range(2, 14))],
    categories=tuple(f"{OPTIONS[0]} · rank {rank}" for rank in range(12)),
)


def test_categories_with_long_names_are_rows_with_whole_names():
    layout = FigureLayout(ROWS)
    assert layout.rows
    assert [" ".join(lines) for lines in layout.labels] == list(ROWS.categories)
    downs = [layout.place(row, 1)[1] for row in range(12)]
    assert all(lower - upper >= 15 * len(layout.labels[0]) for upper, lower in pairwise(downs))
    texts = {element.text: element for element in drawn(ROWS).iter("text")}
    assert all(float(element.get("x")) <= 370 for element in texts.values())
    assert float(texts["rank 11"].get("y")) < layout.height


def test_the_live_figure_has_the_rows_of_the_static_one():
    shown = plotly_figure(ROWS)
    (trace,) = shown["data"]
    assert trace["x"] == list(range(1, 13))
    assert trace["y"] == list(range(12))
    assert trace["error_x"]["array"] == [1] * 12
    assert shown["layout"]["yaxis"]["range"] == [11.5, -0.5], "the first is on top"
    assert shown["layout"]["yaxis"]["ticktext"][3].replace("<br>", " ") == ROWS.categories[3]
    assert shown["layout"]["margin"]["l"] == FigureLayout(ROWS).left
    stacked = plotly_figure(dataclasses.replace(ROWS, stacked=True))["data"][0]
    assert (stacked["type"], stacked["orientation"]) == ("bar", "h")


def test_many_nights_have_as_many_labels_as_fit():
    names = tuple(f"11-{night:02}" for night in range(1, 31))
    nights = figure(curves=[series("a", range(30), range(30))], x_title="night", categories=names)
    layout = FigureLayout(nights)
    assert not layout.rows
    assert [name for _, name in layout.x.ticks][-1] == "11-30"
    assert 3 < len(layout.labels) < 15


def test_an_interval_far_beyond_all_points_does_not_flatten_them():
    made = figure(curves=[series("a", (1, 2), (10, 20), 0, (0, -4000), (12, 5000))])
    axis = y_axis(made)
    assert axis.low == 0
    assert 20 < axis.high < 50
    assert spans(made.series[0], axis) == [
        Span(1, 0, 12, below=False, above=False),
        Span(2, 0, axis.high, below=True, above=True),
    ]


def test_an_interval_that_goes_on_beyond_the_axis_is_capped_and_marked():
    inside = figure(curves=[series("a", (1, 2), (10, 20), 0, (9, 18), (12, 22))])
    beyond = figure(curves=[series("a", (1, 2), (10, 20), 0, (9, -4000), (12, 5000))])
    assert CAPPED_NAME not in [name for _, name in extra_swatches(inside)]
    assert CAPPED_NAME in [name for _, name in extra_swatches(beyond)]
    assert len(plotly_figure(inside)["data"]) == 1
    bars, above, below = plotly_figure(beyond)["data"]
    axis = y_axis(beyond)
    assert bars["error_y"]["array"] == [2, pytest.approx(axis.high - 20, rel=1e-2)]
    assert (above["x"], above["y"]) == ([2], [pytest.approx(axis.high, rel=1e-3)])
    assert (below["x"], below["y"]) == ([2], [0])
    heads = [path for path in drawn(beyond).iter("path") if path.get("fill", "none").startswith("#")]
    assert len([path for path in heads if path.get("d").count("M") == 2]) == 1


def test_points_at_one_rank_count_are_set_apart_and_lines_are_not():
    made = pages.throughput()
    layout = FigureLayout(made)
    moved = dodge_series(made, layout.x)
    points = [series for series in moved.series if series.mark == "points"]
    for place, ranks in enumerate(pages.RANKS):
        at = [layout.x.at(series.x[place]) for series in points]
        assert len(set(at)) == len(at)
        assert sum(at) / len(at) == pytest.approx(layout.x.at(ranks), abs=1e-9)
        assert max(at) - min(at) < 0.05
    assert [s.x for s in moved.series if s.mark == "fitted"] == [s.x for s in made.series if s.mark == "fitted"]
    assert [name for _, name in layout.x.ticks] == ["1", "2", "4", "8", "16"]


def test_a_point_alone_at_its_place_stays():
    made = figure(curves=[series("a", (1, 2), (1, 2)), series("b", (4, 8), (1, 2))])
    assert dodge_series(made, x_axis(made)) == made


@pytest.mark.parametrize(
    ("counts", "log"), [((1, 2, 4), False), ((1, 2, 4, 8), True), ((2, 8), False), ((2, 16), True)]
)
def test_ranks_that_span_a_factor_of_eight_are_on_a_logarithmic_axis(counts, log):
    made = with_rank_axis(figure(curves=[series("a", counts, counts)], grows=True))
    assert (made.log_x, made.log_y) == (log, log)
    assert [name for _, name in x_axis(made).ticks] == [str(count) for count in counts]
    share = with_rank_axis(figure(curves=[series("a", counts, counts)]))
    assert (share.log_x, share.log_y) == (log, False)
    assert not with_rank_axis(figure(curves=[series("a", counts, counts)], x_title="time (s)")).log_x


@pytest.mark.parametrize(
    ("values", "more", "shown"),
    [
        ((400, 1400), {}, ["0", "0.5k", "1k"]),
        ((2e5, 1.5e6), {}, ["0", "0.5M", "1M"]),
        ((0.002, 0.011), {"seconds": True}, ["0", "2 ms", "4 ms"]),
        ((0.3, 1.9), {"seconds": True}, ["0", "0.5 s", "1 s"]),
    ],
)
def test_the_labels_of_an_axis_have_one_prefix(values, more, shown):
    made = figure(curves=[series("a", (1, 2), values)], **more)
    assert [name for _, name in y_axis(made).ticks][:3] == shown


def test_times_over_decades_have_a_unit_each():
    made = figure(curves=[series("a", (1, 2, 3), (2e-5, 1e-3, 2.0))], log_y=True, seconds=True)
    assert [name for _, name in y_axis(made).ticks] == ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]


def test_zero_and_nan_leave_a_gap_on_a_logarithmic_axis():
    made = figure(curves=[series("a", (1, 2, 3, 4, 5), (1, 10, 0, math.nan, 100))], log_y=True)
    (line,) = [path for path in drawn(made).iter("path") if path.get("stroke-width") == "2"]
    assert line.get("d").count("M") == 2


@pytest.mark.parametrize(
    "curves", [(), [series("a", (3,), (0,))], [series("a", (2, 2), (5, 5))], [series("a", (1, 2), (-3, -1))]]
)
def test_figures_of_almost_no_points_have_axes(curves):
    made = figure(curves=curves)
    assert all(axis.low < axis.high for axis in (x_axis(made), y_axis(made)))
    assert labels(made) == [name for axis in (y_axis(made), x_axis(made)) for _, name in axis.ticks]
    assert len(y_axis(made).ticks) >= 3
