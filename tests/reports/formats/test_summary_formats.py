from __future__ import annotations

import importlib.util
import re
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from reports.analysis.answers import workload_answers
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.formats.summary import badge, figures, markdown, png, standalone_svg
from reports.page.elements import Page
from reports.page.sweep_page import make_page
from reports.regression.values import WORST_FIRST
from tests.support import judgements
from tests.support.builders import make_case, make_trial

COMMAND = "python -m harness sweep --ranks 1,2,4,8 --title 'a`b|c'"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<b>no|pipe</b> ](http://a.example) @you #1 ```"
SLOWDOWNS = {"ddp": 0.04, "horovod": 0.3}


def step_s(case):
    return 0.1 * (1 + SLOWDOWNS[case.backend] * (case.ranks - 1)) / case.ranks


def cells_of(counts=(1, 2, 4, 8), workloads=("synthetic", "mnist"), reason=HOSTILE):
    """Two backends of each workload; the most ranks of the second failed, one cell was skipped."""
    cases = [
        make_case(workload=workload, backend=backend, ranks=ranks, batch=64)
        for workload in workloads
        for backend in SLOWDOWNS
        for ranks in counts
    ]
    bad = [case for case in cases if case.backend == "horovod" and case.ranks == counts[-1] > 1]
    trials = [
        make_trial(
            case, number, 0.1 * (1 + SLOWDOWNS[case.backend] * (case.ranks - 1)) / case.ranks * (1 + number / 99)
        )
        for case in cases
        if case not in bad
        for number in range(3)
    ]
    failed = [make_trial(case, outcome="failed", reason=reason, ranks=()) for case in bad]
    skipped = make_case(backend="deepspeed", transport="nccl", batch=64)
    return make_cells([*cases, skipped], {skipped.key: "not installed"}, [*trials, *failed], {})


def page_of(cells, title="Scaling report: x", note=""):
    provenance = [("command", COMMAND), ("machine", "node17: 8 cores"), ("commit", "abc123")]
    return make_page(title, analyse_cells(cells), [], provenance, note=note)


@pytest.fixture(scope="module")
def cells():
    return cells_of()


@pytest.fixture(scope="module")
def page(cells):
    return page_of(cells, f"Scaling report: {HOSTILE}", note=HOSTILE)


def rendered(page):
    """As GitHub reads it: CommonMark with tables and raw HTML."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.markdown(page))


def test_the_summary_answers_and_says_what_failed_and_how_to_repeat_it(page):
    html = rendered(page)
    tables = html.split("<table>")[1:]
    assert len(tables) == 2, "the answers, and the efficiency table"
    assert "ddp/gloo at 8 ranks" in tables[0]
    assert "▲ 78 %" in tables[1]
    assert "✕ failed" in tables[1]
    assert "14 of 17 cells ok, 2 failed, 1 skipped" in html
    assert "not installed" in html
    assert "node17" in html
    assert "--ranks 1,2,4,8" in html


def test_nothing_that_somebody_wrote_is_markup(page):
    html = rendered(page)
    assert set(re.findall(r"<([a-z0-9]+)", html)) <= {
        *("h2", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "ul", "li", "code", "br"),
    }
    assert "@you" not in html
    assert "href" not in html


@pytest.mark.parametrize("count", [1, 120])
def test_it_fits_into_a_comment(count):
    cells = cells_of((1, 2), [f"work{number}" for number in range(count)], reason="&" * 5000)
    shown = markdown.markdown(page_of(cells, "t" * 3000, note="*" * 9000))
    assert len(shown) <= markdown.GITHUB_COMMENT_LIMIT
    assert shown.count("Repeat") == 1
    assert ("would not fit" in shown or "more workloads are on the page." in shown) == (count > 1)


@pytest.mark.parametrize("counts", [(1,), (2,)])
def test_one_rank_count_and_a_sweep_without_numbers_have_a_summary(counts):
    assert "Repeat" in markdown.markdown(page_of(cells_of(counts, ["synthetic"])))


def test_a_page_without_a_first_screen_has_no_summary():
    with pytest.raises(ValueError, match="no first screen"):
        markdown.markdown(Page("Nightly check", (), (), ()))


def test_every_drawing_stands_alone_in_both_schemes(page):
    drawn = figures.drawings(page)
    assert set(drawn) == {
        "efficiency-table",
        *(f"{name}-{kind}" for name in ("synthetic", "mnist") for kind in ("throughput", "speedup", "efficiency")),
    }
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert standalone_svg.SIGNATURE.match(svg.encode())
        assert "prefers-color-scheme:dark" in svg
        assert not re.search(r"href|src=|url\((?!#)|var\(|<script|<image", svg)
        width, height = (float(root.get(name)) for name in ("width", "height"))
        for text in root.iter(f"{SVG}text"):
            if text.get("transform") is None:
                assert 0 <= float(text.get("x")) <= width
                assert 0 <= float(text.get("y")) <= height


def test_the_table_shows_each_efficiency_with_its_mark(page):
    texts = [
        text.text for text in ElementTree.fromstring(figures.drawings(page)["efficiency-table"]).iter(f"{SVG}text")
    ]
    shown = [cell for group in page.cover.heat.groups for _, row in group.rows for cell in row if cell is not None]
    assert [f"{cell.mark} {cell.text}" for cell in shown] == [text for text in texts if text[0] in "▲◆▼•✕"][
        : len(shown)
    ]


def test_the_legend_names_every_series(page):
    figure = next(each for section in page.sections for each in section.figures if each.key == "g0-throughput")
    texts = {text.text for text in ElementTree.fromstring(figures.curve_svg(figure, "w" * 300)).iter(f"{SVG}text")}
    assert {series.name for series in figure.series if series.mark != "fitted"} <= texts
    assert "Amdahl" in texts
    assert {figure.x_title, figure.y_title} <= texts


@pytest.mark.skipif(importlib.util.find_spec("resvg_py") is None, reason="resvg-py draws PNG files")
def test_an_image_is_marked_as_ours_and_larger_than_its_drawing(page):
    import struct

    svg = figures.drawings(page, dark=False)["efficiency-table"]
    image = png.png(svg)
    assert png.SIGNATURE.match(image)
    width, height = struct.unpack(">II", image[16:24])
    root = ElementTree.fromstring(svg)
    assert (width, height) == (png.ZOOM * int(root.get("width")), png.ZOOM * int(root.get("height")))


def badge_of(cells):
    return badge.scaling_badge(workload_answers(analyse_cells(cells)))


def test_the_badge_says_how_far_the_workload_that_scales_least_scales(cells):
    assert badge_of(cells) == badge.Badge("scaling of synthetic", "to 8 ranks · 78 %", "good")
    assert badge_of(cells_of((1,), ["synthetic"])).level == "unknown"


def test_every_verdict_has_a_badge_of_its_level():
    levels = {status: badge.verdict_badge(judgements.one_each(status)) for status in WORST_FIRST}
    assert levels["regressed"] == badge.Badge("performance", "regressed", "bad")
    assert levels["pass"] == badge.Badge("performance", "passed", "good")
    assert {made.level for made in levels.values()} == {"good", "bad", "fair"}


def test_a_badge_holds_its_text_whatever_that_is():
    root = ElementTree.fromstring(badge.badge_svg(badge.Badge("<b>&", "to 8", "fair")))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["<b>&", "to 8"]
    assert root.get("aria-label") == "<b>&: to 8"
