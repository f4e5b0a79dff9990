"""The page in a real browser: offline, scrolled, narrow, printed, by keyboard, in both schemes, without JavaScript."""

from __future__ import annotations

import base64
import re
import zlib
from pathlib import Path

import pytest

from bench.host.installation import cache_folder
from harness.setup.plotly_bundle import FetchError, NpmFile, ensure_npm_file
from reports.page.elements import Page, Section
from reports.page.html import render
from reports.page.plotly_library import bundle_file, plotly_library, read_bundle, whole_library
from tests.support import pages
from tests.support.gpu_cells import gpu_cells
from tests.support.sweep_cells import sweep_page

AXE = NpmFile(
    "axe-core", "4.14.1", "package/axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
)
CHARTS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def written(folder: Path, name: str, html: str) -> Path:
    (folder / name).write_text(html, encoding="utf-8")
    return folder / name


@pytest.fixture(scope="module")
def page(folder):
    return written(folder, "everything.html", render(pages.everything()))


@pytest.fixture(scope="module")
def gpu_page(folder):
    return written(folder, "gpu.html", render(pages.page_of(gpu_cells())))


@pytest.fixture(scope="module")
def sweep(folder):
    return written(folder, "sweep.html", render(sweep_page()))


@pytest.fixture
def browser(browser):
    """Every test finds it wide, light and with JavaScript."""
    browser.scripts(True)
    browser.media()
    browser.width(1400)
    return browser


@pytest.mark.parametrize("library", [plotly_library, whole_library])
def test_each_library_draws_every_figure_and_asks_for_nothing(browser, folder, library):
    browser.open(written(folder, f"{library.__name__}.html", render(pages.everything(), library())))
    assert browser.draw_all() == CHARTS == int(browser.until("document.documentElement.dataset.drawn"))
    assert browser.run("return document.querySelectorAll('.chart .main-svg .trace').length") >= CHARTS
    assert browser.errors() == []
    assert browser.requests() == []


def test_a_figure_is_drawn_when_it_comes_into_view(browser, folder):
    browser.open(written(folder, "twenty.html", render(pages.sized(20, points=10))))
    browser.until("document.querySelector('.chart.drawn')")
    assert not browser.run("return document.querySelector('#f19').matches('.drawn')")
    browser.run("document.querySelector('#f19').scrollIntoView()")
    browser.until("document.querySelector('#f19').matches('.drawn')")
    assert int(browser.run("return document.documentElement.dataset.drawn")) < 20


def test_a_page_of_gpus_is_drawn_as_it_was_before_javascript_and_fits_a_narrow_screen(browser, gpu_page):
    browser.width(400)
    browser.open(gpu_page)
    assert browser.draw_all() > 10
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    bars = "#g0-throughput .main-svg .barlayer .point path"
    # The names of four backends do not fit side by side on a phone: the bars are rows.
    lengths = browser.run(
        f"return [...document.querySelectorAll('{bars}')].map(one => one.getBoundingClientRect().width)"
    )
    values = [series.y[0] for series in next(iter(pages.figures_of(pages.page_of(gpu_cells())))).series]
    assert [length / lengths[0] for length in lengths] == pytest.approx(
        [value / values[0] for value in values], abs=0.02
    )
    assert browser.run("return document.querySelectorAll('#g0-throughput .errorbar').length") == len(values)
    assert browser.errors() == []
    assert browser.requests() == []


QUESTIONS = {
    "which backend": ("td[data-label=fastest]", "ddp/gloo at 2 ranks"),
    "how far": ("td[data-label^=scales]", "1 rank"),
    "why does it stop": ("td[data-label^=why]", "exposed communication: 30 %"),
    "how sure is it": ("td[data-label=trust]", "noisy host"),
    "what machine": (".facts div", "AMD EPYC, 2 cores"),
    "what was skipped": (".strip div", "23 of 24 cells ok, 1 failed"),
    "is the data real": ("th[scope=row]", "scikit-learn digits, a stand-in for MNIST"),
    "did anything fail": (".strip div", "my_lm · dask/tasks · 2 ranks failed"),
    "what to do next": (".strip li", "see why 1 cell failed"),
    "how to repeat it": (".strip code", "python -m harness sweep --ranks 1,2"),
}
"""The questions of docs/how-to/report.md: where the first screen answers them, and with what."""


def test_the_first_screen_answers_ten_questions_of_a_sweep(browser, sweep):
    browser.open(sweep)
    unanswered = [
        question
        for question, (place, text) in QUESTIONS.items()
        if not browser.run(
            """
            const [place, text] = arguments;
            return [...document.querySelectorAll(place)].some(one => {
                const box = one.getBoundingClientRect();
                const around = one.closest(".scroll")?.getBoundingClientRect() ?? box;
                return one.innerText.includes(text) && one.checkVisibility()
                    && box.right <= innerWidth && box.bottom <= Math.min(900, around.bottom + 1);
            });
            """,
            place,
            text,
        )
    ]
    assert unanswered == []
    hidden = "const answers = document.querySelector('.said-first .scroll');"
    assert browser.run(f"{hidden} return answers.scrollHeight - answers.clientHeight") == 0, "no row is cut"
    cells = browser.driver.find_elements("css selector", ".heat td")
    assert len([cell for cell in cells if cell.text]) == 24
    assert cells[-1].rect["y"] + cells[-1].rect["height"] <= 900


def test_the_first_screen_fits_a_narrow_one_and_its_answers_keep_their_names(browser, sweep):
    browser.width(400)
    browser.scripts(False)
    browser.open(sweep)
    browser.scripts(True)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    first = browser.driver.find_element("css selector", ".verdicts tbody tr")
    assert first.rect["y"] + first.rect["height"] <= 900
    titles = browser.run(
        "return [...arguments[0].querySelectorAll('td')].map(one => getComputedStyle(one, '::before').content)", first
    )
    assert titles[0] == '"fastest"'
    assert len(titles) == 5


def test_a_chapter_opens_by_hand_and_by_a_link_into_it(browser, sweep):
    browser.scripts(False)
    browser.open(sweep)
    assert not browser.driver.find_element("css selector", "#g0-throughput").is_displayed()
    browser.driver.find_element("css selector", "#s-mnist summary").click()
    assert browser.driver.find_element("css selector", "#g0-throughput").is_displayed()
    browser.scripts(True)
    browser.driver.get("about:blank")
    browser.open(sweep.with_suffix(".html#s-synthetic-all-cells"))
    assert browser.until("document.querySelector('#s-synthetic-all-cells table').checkVisibility()")


@pytest.mark.parametrize("drawn", [True, False])
def test_nothing_sticks_out_of_a_narrow_screen(browser, page, drawn):
    browser.width(400)
    browser.scripts(drawn)
    browser.open(page)
    browser.scripts(True)
    if drawn:
        browser.draw_all()
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


def test_without_javascript_the_answers_tables_and_pictures_are_there(browser, page):
    browser.scripts(False)
    browser.open(page)
    text = browser.driver.find_element("tag name", "body").text
    for said in ("ddp/gloo is fastest", "All cells, 1,000 rows", "packed inside this page", "Amdahl"):
        assert said in text
    for picture in browser.driver.find_elements("css selector", "section:not(#s-training-2) svg.static"):
        assert picture.is_displayed()
        assert picture.size["height"] > 100
    assert not browser.driver.find_element("css selector", ".downloads").is_displayed()


def test_printing_shows_the_static_pictures_and_what_is_folded(browser, page):
    browser.open(page)
    browser.until("document.querySelector('.chart.drawn')")
    browser.media(kind="print")
    seen = browser.run("""
        const seen = { visibilityProperty: true, contentVisibilityAuto: true };
        const visible = css => [...document.querySelectorAll(css)].filter(one =>
            one.checkVisibility(seen) && one.getBoundingClientRect().height > 5);
        return [visible("svg.static").length, visible(".live").length, visible("td").length];
    """)
    assert seen[:2] == [CHARTS, 0]
    # The cells of the long table; the numbers of figures are left out.
    assert seen[2] == 3000
    pdf = base64.b64decode(browser.driver.print_page())
    assert pdf.startswith(b"%PDF")
    # A page of a thousand rows in ten pages and more, not cut off after the first.
    assert _page_count(pdf) > 10


def test_a_sweep_of_24_cells_is_printed_on_a_cover_and_at_most_eleven_pages(browser, sweep):
    def printed():
        return _page_count(base64.b64decode(browser.send("Page.printToPDF", {})["data"]))

    browser.open(sweep)
    browser.media(kind="print")
    assert 4 < printed() <= 12
    # What is before the first chapter, without the break behind it.
    browser.run("document.querySelectorAll('.chapter, #downloads').forEach(one => one.remove())")
    browser.run("document.querySelector('.warnings').style.breakAfter = 'auto'")
    assert printed() == 1


def _page_count(pdf: bytes) -> int:
    return sum(len(re.findall(rb"/Type\s*/Page\b", part)) for part in (pdf, *_streams(pdf)))


def _streams(pdf: bytes):
    for found in re.finditer(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            yield zlib.decompress(found.group(1))
        except zlib.error:
            continue


def test_a_download_is_handed_out_whole_and_without_a_request(browser, page, folder):
    browser.send("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    browser.open(page)
    browser.driver.find_element("css selector", "#downloads button").click()
    from selenium.webdriver.support.ui import WebDriverWait

    saved = folder / "results.csv"
    # Chromium first makes an empty file of that name, and then puts the whole one in its place.
    WebDriverWait(browser.driver, 10).until(lambda _: saved.exists() and saved.stat().st_size)
    assert saved.read_text() == pages.CSV
    assert browser.requests() == []


def test_the_keyboard_comes_everywhere_and_is_seen(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    visited = []
    for _ in range(8):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        visited.append(browser.run("const e = document.activeElement; return e.id || e.textContent.trim()"))
        assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert visited[:5] == ["To the answers", "Training", "All cells", "Training", "Downloads"]
    assert visited[5] == "throughput"
    assert visited[6].startswith("Numbers")
    browser.driver.find_element(By.CSS_SELECTOR, "nav a[href='#s-training-2']").click()
    assert browser.until("document.querySelector('#s-training-2 details').open")


def test_what_is_pointed_at_is_told(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains

    browser.open(page)
    browser.until("document.querySelector('#throughput').matches('.drawn')")
    point = browser.driver.find_element("css selector", "#throughput .drag.nsewdrag")
    box = browser.run(
        "const b = document.querySelectorAll('#throughput .trace .point')[2].getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    middle = browser.run(
        "const b = arguments[0].getBoundingClientRect();return [b.x + b.width / 2, b.y + b.height / 2]", point
    )
    ActionChains(browser.driver).move_to_element_with_offset(
        point, round(box[0] - middle[0]), round(box[1] - middle[1])
    ).perform()
    told = browser.until("document.querySelector('#throughput .hoverlayer').textContent")
    assert "at 4 ranks" in told
    assert "(3,130–3,826)" in told
    assert "ddp/gloo" in told


HOVER_EVERY_CURVE = """
    const done = arguments[arguments.length - 1];
    (async () => {
        const outside = [];
        let shown = 0;
        for (const chart of document.querySelectorAll(".chart.drawn")) {
            const figure = chart.querySelector(".live"), box = chart.getBoundingClientRect();
            for (const [curveNumber, trace] of figure.data.entries()) {
                for (const pointNumber of [0, Math.floor(trace.x.length / 2), trace.x.length - 1]) {
                    Plotly.Fx.hover(figure, [{ curveNumber, pointNumber }]);
                    await new Promise(requestAnimationFrame);
                    const label = figure.querySelector(".hoverlayer .hovertext")?.getBoundingClientRect();
                    if (!label) continue;
                    shown++;
                    // Within two pixels: its border is drawn around it.
                    const inside = label.left >= box.left - 2 && label.right <= box.right + 2;
                    if (!inside || label.top < box.top - 2 || label.bottom > box.bottom + 2)
                        outside.push([chart.id, trace.name, pointNumber]);
                }
            }
        }
        done([shown, outside]);
    })();
"""


def test_tooltips_are_inside_of_their_figures_on_a_phone(browser, gpu_page):
    browser.width(390)
    browser.open(gpu_page)
    browser.draw_all()
    shown, outside = browser.driver.execute_async_script(HOVER_EVERY_CURVE)
    assert shown > 30
    assert outside == []


@pytest.mark.parametrize(("scheme", "gpus"), [("light", False), ("dark", False), ("dark", True)])
def test_axe_finds_nothing_and_every_chart_has_a_name(browser, folder, scheme, gpus):
    axe = axe_source()
    browser.media(scheme)
    # It looks at every cell of every table: fifty rows tell as much as a thousand.
    page = pages.page_of(gpu_cells()) if gpus else pages.everything(rows=50)
    browser.open(written(folder, "short.html", render(page)))
    charts = browser.draw_all()
    browser.run(axe)
    found = browser.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    names = browser.run("return [...document.querySelectorAll('.chart')].map(one => one.getAttribute('aria-label'))")
    assert len(set(names)) == charts == len(pages.figures_of(page))
    assert browser.run("return document.querySelectorAll('figure table').length") == charts


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_first_screen(browser, sweep, scheme):
    axe = axe_source()
    browser.media(scheme)
    browser.open(sweep)
    browser.run("document.querySelector('.said-first .scroll').style.maxHeight = '8rem'")
    browser.run(axe)
    found = browser.driver.execute_async_script("axe.run('.covered > header, .screen').then(arguments[0])")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    assert {"color-contrast", "scrollable-region-focusable"} <= {one["id"] for one in found["passes"]}


def axe_source() -> str:
    kept = cache_folder("npm") / f"{AXE.package}-{AXE.version}.js"
    try:
        ensure_npm_file(AXE, kept)
    except FetchError as why:
        pytest.skip(str(why))
    return kept.read_text()


def test_ten_figures_of_a_thousand_points_fit():
    if read_bundle(bundle_file()) is None:
        pytest.skip("the small bundle is not kept: python -m harness.setup.plotly_bundle --strict")
    assert len(render(pages.sized(10)).encode()) <= 900_000
    assert len(render(pages.sized(10, mark="points")).encode()) <= 900_000


def test_a_page_of_hundreds_of_figures_opens(browser, folder):
    figures = pages.sized(300, points=20).sections[0].figures
    html = render(Page("Big", ("a: b",), (), (Section("Steps", figures=figures, folded=True),)))
    browser.open(written(folder, "hundreds.html", html))
    assert browser.until("document.documentElement.dataset.drawn") == "0"
    browser.driver.find_element("css selector", "summary").click()
    browser.until("document.querySelector('.chart.drawn')")
    assert int(browser.run("return document.documentElement.dataset.drawn")) < 50
    assert browser.errors() == []


def test_names_in_figures_are_text(browser, folder):
    """plotly.js reads tags in labels and draws links of them."""
    name = '<a href="https://example.org">n</a>'
    bars = pages.figure("bars", [pages.series(name, (0.0,), (1.0,), mark="bar")], categories=(name,), stacked=True)
    browser.open(written(folder, "names.html", render(Page("t", (), (), (Section("s", "", (bars, pages.speedup())),)))))
    browser.draw_all()
    assert browser.run("return document.querySelectorAll('svg a').length") == 0
    drawn = browser.run("return document.querySelector('.chart .main-svg .xtick text').textContent")
    assert drawn.startswith(name[:5])
