from __future__ import annotations

import math
import random

import pytest

from reports.analysis.stats import Estimate, estimate, half_width, intervals_disjoint, ratio, student_t


def test_against_hand_computed_numbers():
    found = estimate([math.e**1, math.e**2, math.e**3], "u")
    assert found.value == pytest.approx(math.e**2)
    # mean 2, standard error 1/√3, t(0.975, 2) = 4.3027
    assert found.high == pytest.approx(math.exp(2 + 4.302653 / math.sqrt(3)), rel=1e-6)
    assert found.low == pytest.approx(math.exp(2 - 4.302653 / math.sqrt(3)), rel=1e-6)
    assert (found.n, found.unit) == (3, "u")


def test_student_t_quantiles():
    assert student_t(1) == pytest.approx(12.7062, rel=1e-5)
    assert student_t(1e9) == pytest.approx(1.959964, rel=1e-5)


def test_one_trial_has_a_value_and_no_interval():
    found = estimate([3.0], "u")
    assert (found.value, found.low, found.high, found.n) == (pytest.approx(3.0), None, None, 1)
    assert ratio([4.0], [2.0, 2.1]).low is None


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, -2.0], [math.nan]])
def test_values_without_a_geometric_mean_are_refused(values):
    with pytest.raises(ValueError, match="positive"):
        estimate(values, "u")


def test_a_ratio_of_equal_things_is_one():
    assert ratio([2.0, 2.0], [1.0, 1.0], factor=0.5) == Estimate(value=1.0, low=1.0, high=1.0, n=2, unit="×")


def test_95_percent_intervals_cover():
    rng = random.Random(7)
    rounds, hits, ratio_hits = 2000, 0, 0
    for _ in range(rounds):
        above = [100 * math.exp(rng.gauss(0, 0.03)) for _ in range(3)]
        below = [50 * math.exp(rng.gauss(0, 0.06)) for _ in range(5)]
        found, quotient = estimate(above, "u"), ratio(above, below)
        hits += found.low <= 100 <= found.high
        ratio_hits += quotient.low <= 2 <= quotient.high
    assert 0.935 <= hits / rounds <= 0.965
    assert 0.935 <= ratio_hits / rounds <= 0.97


def test_half_width_is_relative_to_the_value():
    found = estimate([100.0, 102.0, 98.0], "u")
    assert half_width(found) == pytest.approx(found.high / found.value - 1)
    assert half_width(estimate([1.0], "u")) is None
    assert half_width(None) is None


def test_intervals_are_disjoint_only_without_overlap():
    def made(low, high):
        return Estimate(value=1, low=low, high=high, n=3, unit="u")

    assert intervals_disjoint(made(1, 2), made(3, 4)) is True
    assert intervals_disjoint(made(1, 3), made(2, 4)) is False
    assert intervals_disjoint(made(None, None), made(2, 4)) is None
