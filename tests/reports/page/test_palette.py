"""The registry of styles: what a series means looks the same on a whole page, and nothing else looks like it."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import combinations

import pytest

from reports.analysis.comparison import compare, labelled
from reports.analysis.findings import analyse_cells
from reports.page import palette
from reports.page.dodge import is_named_by_category
from reports.page.styles import has_markers, series_styles
from reports.page.sweep_page import make_page
from tests.support.gpu_cells import gpu_cells
from tests.support.large_sweep import large_sweep
from tests.support.pages import BACKGROUNDS, figures_of, page_of

FAMILIES = (
    palette.BACKEND_COLOURS,
    tuple(palette.STEP_PART_COLOURS.values()),
    tuple(palette.HOST_GPU_COLOURS.values()),
    tuple(palette.GPU_COLOURS.values()),
    tuple(palette.OPERATION_COLOURS.values()),
    tuple(palette.NIGHT_COLOURS.values()),
    (palette.NEUTRAL_COLOUR,),
)
COLOURS = [colour for family in FAMILIES for colour in family]
LEAST_DIFFERENCE = 0.07
"""In OKLab, where 0.02 is about the least difference that is seen of colours side by side."""


def linear_channels(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def luminance(colour):
    red, green, blue = linear_channels(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def oklab(colour):
    """By https://bottosson.github.io/posts/oklab/."""
    red, green, blue = linear_channels(colour)
    cones = (
        0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue,
        0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue,
        0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue,
    )
    long, medium, short = (cone ** (1 / 3) for cone in cones)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_colour_stands_out_in_light_and_dark(background):
    for colour in COLOURS:
        bright, dark = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3, colour


def test_no_two_meanings_have_a_colour_that_looks_the_same():
    close = {
        pair: math.dist(*map(oklab, pair))
        for pair in combinations(COLOURS, 2)
        if math.dist(*map(oklab, pair)) < LEAST_DIFFERENCE
    }
    assert not close


@pytest.fixture(scope="module")
def two_sweeps():
    sweeps = {label: large_sweep((1, 2), collectives=False, workloads=("synthetic",)) for label in "AB"}
    cells = tuple(cell for label, own in sweeps.items() for cell in labelled(own, label))
    return make_page("t", analyse_cells(cells), [], [], (compare("A", sweeps["A"], "B", sweeps["B"]),))


@pytest.fixture(scope="module")
def pages_by_name(two_sweeps):
    return {"large": page_of(large_sweep()), "gpu": page_of(gpu_cells((1, 2))), "two sweeps": two_sweeps}


def looks(page):
    """``(kind, look, name)`` of every series of a page; a name says all of a series but its figure."""
    for figure in figures_of(page):
        for series, style in zip(figure.series, series_styles(figure), strict=True):
            if is_named_by_category(figure):
                yield "bars with names", (style.colour,), series.name
            elif figure.stacked or figure.bars:
                yield "bars", (style.colour, style.pattern), series.name
            elif has_markers(series):
                yield "markers", (style.colour, style.marker), series.name
            else:
                yield "lines", (style.colour, style.dash), series.name


@pytest.mark.parametrize("name", ["large", "gpu", "two sweeps"])
def test_a_series_looks_the_same_in_every_figure_of_a_page(pages_by_name, name):
    by_name = defaultdict(set)
    for kind, look, series in looks(pages_by_name[name]):
        by_name[kind, series].add(look)
    assert {series: seen for series, seen in by_name.items() if len(seen) > 1} == {}


@pytest.mark.parametrize("name", ["large", "gpu", "two sweeps"])
def test_no_two_series_of_a_figure_need_colour_to_be_told_apart(pages_by_name, name):
    for figure in figures_of(pages_by_name[name]):
        by_kind = defaultdict(list)
        for series, style in zip(figure.series, series_styles(figure), strict=True):
            if figure.stacked or figure.bars:
                by_kind["bars"].append(style.pattern)
            else:
                by_kind[series.mark].append(style.marker if has_markers(series) else style.dash)
        if not figure.bars:
            assert all(len(set(seen)) == len(seen) for seen in by_kind.values()), figure.key


def test_a_colour_is_of_one_backend_or_of_one_meaning(pages_by_name):
    """Names of one backend begin with it; a neutral colour is of statistics and of what is ideal."""
    for page in pages_by_name.values():
        meanings = defaultdict(set)
        for _, (colour, *_), series in looks(page):
            if colour != palette.NEUTRAL_COLOUR:
                meanings[colour].add(series.replace(" · ", " ").split(" ")[0].rstrip(",:"))
        assert {colour: names for colour, names in meanings.items() if len(names) > 1} == {}


def test_two_values_of_an_axis_are_one_colour_solid_and_dashed(pages_by_name):
    throughput = next(figure for figure in figures_of(pages_by_name["large"]) if figure.title == "Throughput")
    styles = {series.name: series.style for series in throughput.series if series.mark == "points"}
    assert len(styles) == 6
    for backend in ("ddp/gloo", "horovod/mpi", "fsdp/gloo"):
        base, other = styles[f"{backend} (precision=float32)"], styles[f"{backend} (precision=bf16)"]
        assert base.colour == other.colour
        assert (base.dash, bool(other.dash)) == ((), True)
        assert base.marker != other.marker
    assert len({style.colour for style in styles.values()}) == 3


def test_two_bars_of_one_colour_differ_in_their_pattern():
    page = page_of(large_sweep((2,), workloads=("synthetic",), collectives=False))
    bars = next(figure for figure in figures_of(page) if figure.title == "Throughput")
    assert bars.bars
    looks_of_bars = [(style.colour, style.pattern) for style in series_styles(bars)]
    assert len(set(looks_of_bars)) == 6
    assert len({colour for colour, _ in looks_of_bars}) == 3


def test_two_sweeps_of_a_backend_are_one_colour_solid_and_dashed(two_sweeps):
    styles = {series.name: series.style for figure in figures_of(two_sweeps) for series in figure.series}
    first, other = (styles[f"ddp/gloo · {label}"] for label in "AB")
    assert first.colour == other.colour
    assert (first.dash, bool(other.dash)) == ((), True)


def test_three_values_of_one_backend_have_a_colour_each():
    from reports.analysis.cells import make_cells
    from reports.analysis.findings import group_cells
    from tests.support.builders import make_case, make_trial

    cases = [make_case(backend_options={"bucket_cap_mb": size} if size else {}) for size in (None, 1, 5)]
    (group,) = group_cells(make_cells(cases, {}, [make_trial(case) for case in cases], {}))
    assert len({style.colour for style in palette.backend_styles(group.cells).values()}) == 3


def test_more_backends_than_colours_differ_in_their_dashes():
    styles = [palette.backend_style(number) for number in range(24)]
    assert len(set(styles)) == 24
