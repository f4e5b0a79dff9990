"""An exact law gives one serial fraction at every rank count, wherever the curve starts."""

from __future__ import annotations

import pytest

from reports.analysis.curve import fit_curve
from reports.analysis.laws import denominator
from reports.analysis.serial_fraction import gustafson, karp_flatt


def test_by_hand():
    # Amdahl with a serial share of 10 % on 8 ranks: S = 1 / (0.1 + 0.9/8).
    assert karp_flatt(1 / (0.1 + 0.9 / 8), 8) == pytest.approx(0.1)
    assert karp_flatt(1.0, 1) is None
    # Gustafson: S = 8 − 0.1 · 7.
    assert gustafson(7.3, 8) == pytest.approx(0.1)


@pytest.mark.parametrize("first", [1, 2, 8, 64])
def test_exact_amdahl_from_any_rank_count(first):
    rates = {ranks: [ranks / denominator(ranks, 0.01)] for ranks in (first, 2 * first, 4 * first, 16 * first)}
    points = fit_curve("", rates).points
    assert points[0].karp_flatt is None
    assert [point.karp_flatt.value for point in points[1:]] == pytest.approx([0.01] * 3)


@pytest.mark.parametrize("first", [1, 2, 8, 64])
def test_exact_gustafson_from_any_rank_count(first):
    rates = {ranks: [ranks - 0.05 * (ranks - 1)] for ranks in (first, 2 * first, 4 * first, 16 * first)}
    points = fit_curve("", rates, scaling="weak").points
    assert points[0].gustafson is None
    assert [point.gustafson.value for point in points[1:]] == pytest.approx([0.05] * 3)


def test_the_interval_contains_the_value_and_its_ends_are_exchanged():
    rates = {
        ranks: [ranks / denominator(ranks, 0.01) * (1 + noise) for noise in (-0.005, 0, 0.005)] for ranks in (8, 64)
    }
    fraction = fit_curve("", rates).points[1].karp_flatt
    assert 0 < fraction.low < fraction.value < fraction.high


def test_what_no_fraction_explains_is_unknown():
    # Flat throughput is a serial fraction of 1; a fall is more than that, up to where no fraction explains it.
    assert karp_flatt(8, 16, 8) == pytest.approx(1)
    assert karp_flatt(0.95 * 8, 16, 8) > 1
    assert karp_flatt(0.4 * 8, 16, 8) is None
    assert gustafson(18 * 8, 16, 8) is None
