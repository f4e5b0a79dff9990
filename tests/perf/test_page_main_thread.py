"""What a page costs the browser's main thread, beside plotly's own page of the same figures. Nothing asserts a time."""

from __future__ import annotations

from itertools import count

import pytest

from reports.page.html import render
from reports.page.plotly_charts import plotly_figure
from tests.support import pages
from tests.support.chromium import chromium

FIGURES = 10
PAIRS = 7
GOAL = 0.40


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        started.width(1400)
        yield started


def plotly_page(page) -> str:
    """The same figures as plotly writes them, all in one page."""
    import plotly.graph_objects as go

    figures = [go.Figure(plotly_figure(figure)) for section in page.sections for figure in section.figures]
    parts = [figure.to_html(full_html=False, include_plotlyjs=not number) for number, figure in enumerate(figures)]
    return f"<!doctype html><html><head><meta charset=utf-8></head><body>{''.join(parts)}</body></html>"


@pytest.fixture(params=["opened", "scrolled through"])
def scrolled(request):
    return request.param == "scrolled through"


@pytest.mark.parametrize("mark", ["line", "points"])
def test_main_thread_beside_plotly_s_own_page(benchmark, side_by_side, goal, browser, tmp_path, mark, scrolled):
    page = pages.sized(FIGURES, mark=mark)
    texts = {"ours.html": render(page), "theirs.html": plotly_page(page)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    turn = count()

    def task_s(name: str, done: str) -> float:
        """Seconds that the main thread was busy, from asking for the page until nothing is left to do."""
        browser.driver.get("about:blank")
        browser.send("Performance.enable", {"timeDomain": "threadTicks"})
        browser.driver.get(f"file://{tmp_path / name}?{next(turn)}")
        browser.until(done)
        if scrolled and name == "ours.html":
            browser.draw_all()
        browser.driver.execute_async_script("requestIdleCallback(() => setTimeout(arguments[0], 500))")
        metrics = browser.send("Performance.getMetrics", {})["metrics"]
        browser.send("Performance.disable", {})
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    theirs = f"document.querySelectorAll('.js-plotly-plot .main-svg .trace').length >= {FIGURES}"
    what = f"{mark}, {'scrolled through' if scrolled else 'opened'}, main thread, ours ÷ plotly's"
    ratios = side_by_side(
        lambda: task_s("ours.html", "document.querySelector('.chart.drawn')"),
        lambda: task_s("theirs.html", theirs),
        PAIRS,
        what,
    )
    goal(what, ratios, at_most=GOAL)
    benchmark.extra_info["bytes"] = {name: len(text.encode()) for name, text in texts.items()}
