"""Text in Markdown stays text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.text import one_line
from reports.formats.markdown_text import ZERO_WIDTH_SPACE, code, text


@pytest.mark.parametrize(
    "hostile",
    [
        "www.example.org",
        "WWW.example.org",
        "https://example.org",
        "GH-12",
        "gh-12",
        "@somebody",
        "o/r#12",
        "<img src=x>",
        "[m](x)",
        "`c`",
        "a|b",
        "**b**",
        "~~s~~",
        "$x$",
        "a_b_",
        "&lt;",
        "\\<",
    ],
)
def test_nothing_is_markup_a_link_or_a_mention(hostile):
    for shown in (text(hostile), code(hostile)):
        inner = shown.removeprefix("<code>").removesuffix("</code>")
        assert not re.search(r"[\\`*_{}\[\]<>|~$\"':]|www\.", inner, re.IGNORECASE)
    assert not re.search(r"[@#]\w|gh-\w", re.sub("&#[0-9]+;", "", text(hostile)), re.IGNORECASE)


@given(st.text())
def test_a_reader_sees_the_text(plain):
    assert html.unescape(text(plain, 0)).replace(ZERO_WIDTH_SPACE, "") == one_line(plain)
