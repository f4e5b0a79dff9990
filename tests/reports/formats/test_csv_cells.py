"""No cell of an export is a formula, and each can be read back."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.formats.csv_cells import escape_cell, unescape_cell

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n@x",
    " =1",
    "＝1",
    '=HYPERLINK("http://a";"b")',
    "=cmd|' /C calc'!A0",
    "a;=1",
    "a\r\n=1",
    "a;\t+1",
    ";;-1",
]
TEXTS = st.text(st.sampled_from("=+-@';\t\r\n ax,\"＝") | st.characters())


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_spreadsheet_finds_a_formula(formula, separator):
    """A row as a program reads it that separates by ``separator`` and ignores quotation marks inside cells."""
    file = io.StringIO()
    csv.writer(file).writerow(["s1", escape_cell(formula), 5])
    for line in re.split(r"[\r\n]+", file.getvalue()):
        for cell in line.split(separator):
            assert not re.match(r"[\"\s]*[=+\-@＝]", cell)


@given(TEXTS)
def test_what_was_written_is_read(text):
    assert unescape_cell(escape_cell(text)) == text


@given(TEXTS)
def test_no_text_begins_a_formula(text):
    assert not re.search(r"(^|[;\t\r\n])\s*[=+\-@＝]", escape_cell(text))


@pytest.mark.parametrize("text", ["", "it's", "a-b=c+d@e", "mnist[lr=-1]/ddp", "1e-5", "5"])
def test_other_text_stays(text):
    assert escape_cell(text) == unescape_cell(text) == text
