"""The page of a check in a real browser: drawn offline, in both schemes, and on a narrow screen."""

from __future__ import annotations

import pytest

from reports.page.check_page import make_check_page
from reports.page.html import render
from tests.support import judgements


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    made = tmp_path_factory.mktemp("check") / "check.html"
    made.write_text(render(make_check_page(judgements.everything(), judgements.history())), encoding="utf-8")
    return made


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_every_figure_is_drawn_and_nothing_sticks_out(browser, page, width, scheme):
    browser.media(scheme)
    browser.width(width)
    browser.open(page)
    assert browser.draw_all() == 8
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors() == []
    assert browser.requests() == []


def test_odd_names_run_no_script(browser, tmp_path):
    odd = tmp_path / "odd.html"
    series = [judgements.nights(name) for name in judgements.ODD]
    odd.write_text(render(make_check_page(judgements.odd(), series)), encoding="utf-8")
    browser.width(400)
    browser.open(odd)
    assert browser.draw_all() == len(judgements.ODD)
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors() == []
