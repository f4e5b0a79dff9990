from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.analysis import changes
from reports.analysis.stats import Estimate


def ratio(value, low=None, high=None):
    return Estimate(value=value, low=low, high=high, n=3, unit="1")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (ratio(0.879, 0.86, 0.898), "-12.1 % (-14.0 to -10.2 %)"),
        (ratio(1.1), "+10.0 %"),
        (ratio(1.0), "0.0 %"),
        (ratio(0.06, 0.04, 0.083), "16.7× slower (12.0–25.0×)"),
        (ratio(17.3, 12, 25), "17.3× faster (12.0–25.0×)"),
        (ratio(1.8, 1.4, 2.3), "1.80× faster (1.40–2.30×)"),
        (ratio(0.06, 0.001, 3), "16.7× slower (0.333–1,000×)"),
        (ratio(0.06, 0, 3), "16.7× slower (0.333–∞×)"),
        (ratio(math.nan), "unknown"),
        (ratio(0.0), "unknown"),
        (None, "–"),
    ],
)
def test_a_change_beyond_two_times_is_a_factor(change, shown):
    assert changes.change(change) == shown


def test_a_change_without_words_keeps_its_direction():
    assert changes.multiple(0.104, 0.089, 0.118) == "+10.4 % (+8.9 to +11.8 %)"
    assert changes.multiple(16.3, 11, 24.1) == "×17.3 (×12.0 to ×25.1)"
    assert changes.multiple(-0.94, -0.96, -0.917) == "÷16.7 (÷25.0 to ÷12.0)"
    assert changes.multiple(16.3) == "×17.3"
    assert changes.multiple(-1) == "-100.0 %"


def test_a_phrase_says_the_direction_and_its_number_has_no_sign():
    assert changes.size(-0.104, -0.118, -0.089) == "10.4 % (8.9–11.8 %)"
    assert changes.size(0.03, -0.01, 0.07) == "3.0 % (-1.0 to +7.0 %)"
    assert changes.size(-0.04, -0.06, -0.02, "points") == "4.0 points (2.0–6.0 points)"


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_no_change_has_more_than_two_digits_of_per_cent(value):
    """Neither +1.63e+03 % nor -94 %."""
    shown = changes.change(ratio(value))
    percent = re.fullmatch(r"[+-]?(\d+\.\d) %", shown)
    assert percent is None or float(percent[1]) <= 100
    assert percent or shown.endswith("faster" if value > 1 else "slower")


@given(st.lists(st.floats(min_value=-1, max_value=1), max_size=12), st.integers(0, 2))
def test_rounded_parts_add_up_to_the_rounded_total(shares, decimals):
    parts, total = changes.parts_of_total(shares, decimals)
    values = [float(part.removesuffix(" %")) for part in parts]
    assert math.fsum(values) == pytest.approx(float(total.removesuffix(" %")), abs=1e-9)
    assert float(total.removesuffix(" %")) == pytest.approx(100 * math.fsum(shares), abs=0.51 * 10**-decimals)
    # No part moves by a whole unit of its last digit.
    assert all(abs(value - 100 * share) < 1.001 * 10**-decimals for value, share in zip(values, shares, strict=True))


def test_a_ratio_as_it_is_keeps_its_sign():
    assert changes.times(ratio(1.31, 1.28, 1.34)) == "1.31× (1.28–1.34×)"
    assert changes.times(ratio(0.5)) == "0.500×"


def test_parts_that_are_no_numbers_have_an_unknown_total():
    assert changes.parts_of_total([0.5, math.nan]) == (("50 %", "unknown"), "unknown")
