"""The boundaries of repeated looks, beside simulated looks and a single one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.analysis.looks import Looks, crossing_probability


def quantile(looks: Looks, look: int) -> float:
    from scipy.special import ndtri

    return float(-ndtri(looks.level(look)))


@pytest.mark.parametrize(("most", "error"), [(2, 0.05), (3, 0.025), (10, 0.05 / 3), (40, 0.025)])
def test_all_looks_together_err_as_rarely_as_stated(most, error):
    walks = np.random.default_rng(5).standard_normal((40_000, most)).cumsum(axis=1)
    numbers = np.arange(1, most + 1)
    boundary = np.array([quantile(Looks(error, most), look) for look in numbers])
    crossed = (walks / np.sqrt(numbers) >= boundary).any(axis=1).mean()
    assert crossed == pytest.approx(error, abs=4 * math.sqrt(error / 40_000))


def test_a_single_look_is_that_of_a_fixed_number_of_trials():
    assert quantile(Looks(0.025, 1), 1) == pytest.approx(1.96, abs=0.005)


def test_the_first_looks_are_the_strictest_and_those_beyond_the_last_are_like_it():
    looks = Looks(0.025, 10)
    levels = [looks.level(look) for look in range(1, 11)]
    assert levels == sorted(levels)
    assert levels[-1] < 0.025
    assert sum(levels) > 0.025, "a union bound would allow less"
    assert looks.level(12) == levels[-1]


def test_of_very_many_looks_the_constant_is_extrapolated_and_not_integrated_for_minutes():
    looks = Looks(0.05, 3000)
    constant = quantile(looks, 3000)
    assert crossing_probability(constant, 3000) == pytest.approx(0.05, abs=2e-4)
    assert quantile(Looks(0.05, 100_000), 100_000) == pytest.approx(constant, abs=0.02)
