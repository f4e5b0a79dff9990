"""The page as one file: what is in it, what it may do, and how big it is."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from html import unescape
from html import unescape as html_text

import pytest

from reports.page.elements import Hyperlink, Page, Section, Table
from reports.page.html import MAX_FIGURE_ROWS, column_classes, render, sample_rows
from reports.page.plotly_charts import plotly_figure
from reports.page.plotly_library import PlotlyJs, read_bundle, whole_library
from tests.support import pages
from tests.support.pages import BACKGROUNDS

LIBRARY = PlotlyJs("a stand-in", "window.Plotly = {};")


@pytest.fixture(scope="module")
def html():
    return render(pages.everything(), LIBRARY)


def unpacked(html, name):
    packed = re.search(rf'id="{name}">([^<]*)<', html).group(1)
    return gzip.decompress(base64.b64decode(packed)).decode()


def test_one_file_that_requests_nothing(html):
    loaded = re.findall(r"<(?:script|link|img|iframe|source)[^>]*(?:src|srcset|href)=[\"']([^\"']+)", html)
    assert [place for place in loaded if not place.startswith("data:")] == []
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert re.findall(r"https?://", re.sub(r'<a href="[^"]*"', "", html)) == []


def test_two_scripts_may_run_and_nothing_else(html):
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1))
    scripts = [re.search(r"<script>(.*?)</script>", html, re.DOTALL).group(1), LIBRARY.text]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy.startswith("default-src 'none'; script-src ")
    allowed = policy.split("; ")[1].split()[1:]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]


def test_the_library_is_whole_in_the_page():
    library = whole_library()
    assert unpacked(render(Page("t", (), (), ()), library), "library") == library.text


def test_a_bundle_that_was_tampered_with_is_not_used(tmp_path):
    (tmp_path / "bundle.js").write_text("alert(1)")
    assert read_bundle(tmp_path / "bundle.js") is None
    assert read_bundle(tmp_path / "none.js") is None


def test_hostile_text_is_escaped(html):
    assert "Report: &lt;everything&gt;" in html
    assert "synthetic &lt;b&gt;" in html  # a label
    assert "</script><b>" not in html


def test_downloads_are_packed_whole(html):
    assert unpacked(html, "file-1") == pages.CSV
    assert 'data-name="results.csv"' in html


def test_the_same_values_give_the_same_bytes(html):
    assert render(pages.everything(), LIBRARY) == html


def test_sections_have_anchors_that_are_unique_and_linked(html):
    anchors = re.findall(r'<section id="([^"]+)"', html)
    assert anchors == ["s-training", "s-all-cells", "s-training-2", "downloads"]
    assert re.findall(r'<li><a href="#([^"]+)"', html) == anchors


def test_long_tables_are_folded_and_say_how_long_they_are(html):
    assert "<summary>All cells, 1,000 rows</summary>" in html
    assert html.count('<a href="cells/') == 1000
    assert '<a href="cells/7.html">synthetic</a>' in html


def test_a_folded_section_is_closed(html):
    section = html[html.index('id="s-training-2"') :]
    assert re.match(r'[^<]*>\s*<details class="folded"><summary><h2>Training</h2>', section)


def test_a_long_table_of_a_figure_is_sampled_with_a_note():
    table = pages.telemetry().table
    shown = sample_rows(table, has_downloads=True)
    assert len(shown.rows) == MAX_FIGURE_ROWS
    assert (shown.rows[0], shown.rows[-1]) == (table.rows[0], table.rows[-1])
    assert shown.note == f"{MAX_FIGURE_ROWS} of 1,000 rows, evenly spaced. The download has all of them."
    assert "download" not in sample_rows(table, has_downloads=False).note
    short = pages.speedup().table
    assert sample_rows(short, has_downloads=True) is short


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1", "16"), "n"),
        (("15.8k (15.1k–16.5k) samples/s", "–"), "n"),
        (("71 % (68–74 %)", "100 %"), "n"),
        (("4.50 µs", "18.6 ms"), "n"),
        (("-0.5", "+1.2 %"), "n"),
        (("1.36 (1.18–1.58) GB/s",), "n"),
        (("34.0 °C", "–"), "n"),
        (("–", "synthetic · ddp/nccl · 1 rank"), "t"),
        (("ddp/gloo", "1"), ""),
        (("–", "–"), ""),
        (("2 trials failed: out of memory",), "t"),
        ((), ""),
    ],
)
def test_columns_of_numbers_are_right_aligned_and_those_of_long_text_wide(cells, expected):
    assert column_classes(Table("t", ("a",), tuple((cell,) for cell in cells))) == (expected,)


def test_a_link_is_aligned_by_its_text():
    assert column_classes(Table("t", ("a",), ((Hyperlink("12", "x.html"),),))) == ("n",)


def test_the_backgrounds_are_those_of_the_page(html):
    assert tuple(re.findall(r"--page: (#\w+);", html)) == BACKGROUNDS


@pytest.mark.parametrize("made", [f for s in pages.everything().sections for f in s.figures], ids=lambda f: f.key)
def test_plotly_accepts_every_property(made):
    """A property or value that plotly doesn't know would be passed over in silence in the browser."""
    import plotly.graph_objects as go

    drawn = plotly_figure(made)
    json.dumps(drawn, allow_nan=False)
    go.Figure(drawn)
    assert [trace["name"] for trace in drawn["data"][: len(made.series)]] == [series.name for series in made.series]


def test_figures_are_strict_json(html):
    figures = json.loads(unpacked(html, "figures"), parse_constant=lambda name: pytest.fail(f"{name} in the figures"))
    assert len(figures) == html.count('class="chart"') == 7


def test_hover_text_has_value_interval_and_name():
    trace = plotly_figure(pages.throughput())["data"][0]
    assert trace["hovertemplate"] == "%{text}<extra></extra>"
    assert trace["text"][0] == "ddp/gloo<br>1,000 (900–1,100)<br>samples/s<br>at 1 rank"
    share = pages.figure(curves=[pages.series("ddp", (2,), (0.714,), 0, (0.68,), (0.74,))], percent=True)
    assert plotly_figure(share)["data"][0]["text"] == ["ddp<br>71 % (68–74 %)<br>at 2 ranks"]
    step = pages.figure(curves=[pages.series("ddp", (2,), (0.0124,))], seconds=True)
    assert plotly_figure(step)["data"][0]["text"] == ["ddp<br>12.4 ms<br>at 2 ranks<br>interval unknown"]


def test_hover_text_is_narrower_than_a_figure_on_a_phone():
    for made in (f for section in pages.everything().sections for f in section.figures):
        for trace in plotly_figure(made)["data"]:
            assert all(len(line) <= 20 for text in trace.get("text", ()) for line in html_text(text).split("<br>"))


@pytest.mark.parametrize("mark", ["line", "points"])
def test_ten_thousand_points_take_little_room(mark):
    """The library beside: it is half a megabyte, and the test must not depend on whether it could be fetched."""
    ten, twenty = (len(render(pages.sized(count, mark=mark), LIBRARY).encode()) for count in (10, 20))
    assert ten <= 370_000
    assert (twenty - ten) / 10 <= 25_000


def test_a_page_of_hundreds_of_figures_is_made():
    few = pages.sized(4, points=20)
    figures = tuple(
        dataclasses.replace(figure, key=f"{figure.key}-{n}") for n in range(75) for figure in few.sections[0].figures
    )
    html = render(Page("t", (), (), (Section("s", figures=figures, folded=True),)), LIBRARY)
    assert html.count('class="chart"') == 300


def test_an_option_is_not_broken_at_the_end_of_a_line_and_what_looks_like_markup_is_escaped():
    page = Page("t", ("sweep: give --budget or <b>--set</b> ddp.x=1", "a word--with-hyphens"), (), ())
    html = render(page, LIBRARY)
    assert '<span class="option">--budget</span>' in html
    assert '&lt;b&gt;<span class="option">--set</span>&lt;/b&gt;' in html
    assert "a word--with-hyphens" in html
