"""No character of shown text controls a terminal, reverses its direction, or makes two lines of one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticSerializationError

from bench.core.frozen_model import FrozenModel
from bench.core.text import REPLACEMENT, one_line, printable

ANY_TEXT = st.text(st.characters())
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that do something: control, format (direction, invisible), surrogates, separators."""
VISIBLE = {
    *map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440))),
}
"""Of these the marks of Arabic, Syriac, Kaithi and hieroglyphs, which are seen."""


@pytest.mark.parametrize(
    "letter",
    [
        *(chr(number) for number in (*range(0x20), *range(0x7F, 0xA0))),
        *"\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2028\u2029\u2066\u2067\u2068\u2069\ufeff",
        "\ud800",
        "\U000e0041",
    ],
)
def test_what_a_terminal_obeys_is_replaced(letter):
    assert letter not in printable(f"a{letter}b")
    assert letter not in one_line(f"a{letter}b")


@given(ANY_TEXT)
def test_shown_text_has_no_character_that_does_something(text):
    for shown in (printable(text), one_line(text)):
        assert not {letter for letter in shown if unicodedata.category(letter) in OBEYED} - VISIBLE
        assert len(shown.splitlines()) <= 1


@given(ANY_TEXT)
def test_lines_stay_where_they_are_wanted(text):
    assert printable(text, keep="\n").count("\n") == text.count("\n")
    assert printable(printable(text)) == printable(text)


def test_text_of_every_language_stays():
    text = "naïve 日本語 κ = 0.5 %\N{NO-BREAK SPACE}… עברית 🚀"
    assert printable(text) == text
    assert printable("  indented") == "  indented"
    assert one_line("  a \t\r\n b ") == "a b"
    assert printable("a\x1bb") == f"a{REPLACEMENT}b"


@given(ANY_TEXT, st.integers(1, 20))
def test_cut_text_says_so(text, longest):
    shown = one_line(text, longest)
    assert len(shown) <= longest
    assert shown.endswith("…") or shown == one_line(text)


def test_little_is_looked_at_of_a_long_text():
    assert one_line("x" * 300_000_000, 20) == "x" * 19 + "…"


class _Inner(FrozenModel):
    lines: tuple[str, ...]
    settings: dict[str, str]


class _Outer(FrozenModel):
    name: str
    seconds: float
    inner: tuple[_Inner, ...]


def test_text_in_no_encoding_loses_no_record():
    inner = _Inner(lines=("a", "b\udcff"), settings={"k\udcff": "v", "w": "\ud800"})
    record = _Outer.model_validate_json(_Outer(name="ok 🚀", seconds=float("inf"), inner=(inner,)).model_dump_json())
    assert record.inner[0] == _Inner(lines=("a", "b\ufffd"), settings={"k\ufffd": "v", "w": "\ufffd"})
    assert (record.name, record.seconds) == ("ok 🚀", float("inf"))


def test_what_else_can_t_be_written_is_an_error():
    with pytest.raises(PydanticSerializationError):
        _Outer.model_construct(name=object(), seconds=1.0, inner=()).model_dump_json()
