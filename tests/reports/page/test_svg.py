"""Static figures: well-formed, all of a figure in them, thin where there is much; and the axes they share."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from reports.page.layout import FigureLayout, x_axis, y_axis
from reports.page.plotly_charts import plotly_figure
from reports.page.styles import series_styles
from reports.page.svg import downsample, figure_svg
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
    assert (band["y"][0], band["y"][-1]) == (0, 0)
    assert len(band["x"]) == 1000


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


def test_long_names_of_few_categories_are_wrapped_and_whole():
    layout = FigureLayout(figure(curves=[series("a", range(2), (1, 2))], categories=OPTIONS))
    assert not layout.slanted
    assert [" ".join(lines) for lines in layout.labels] == list(OPTIONS)
    assert max(len(lines) for lines in layout.labels) in (3, 4)


def test_names_that_are_rotated_keep_their_ends():
    names = tuple(f"{OPTIONS[0]} · rank {rank}" for rank in range(12))
    layout = FigureLayout(figure(curves=[series("a", range(12), range(12))], categories=names))
    assert layout.slanted
    assert all(len(lines) == 1 and lines[0].startswith("ddp") for lines in layout.labels)
    assert [lines[0][-4:] for lines in layout.labels] == [name[-4:] for name in names]


def test_an_interval_far_beyond_all_points_does_not_flatten_them():
    made = figure(curves=[series("a", (1, 2), (10, 20), 0, (0, -4000), (12, 5000))])
    axis = y_axis(made)
    assert axis.low == 0
    assert 20 < axis.high < 50


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
