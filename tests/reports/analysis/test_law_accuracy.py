"""Predictions of the last rank count of published curves."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from reports.analysis.law_accuracy import (
    accuracy,
    calibrated_doubling_error,
    conformal_quantile,
    hold_out,
    look_ahead,
    parse_curves,
)
from reports.analysis.law_prediction import DOUBLING_ERROR
from tests.support.paths import ROOT

CURVES = parse_curves((ROOT / "tests/data/published_curves.toml").read_text())


def test_the_table_is_of_published_curves():
    assert len(CURVES) >= 25
    assert len({curve.name for curve in CURVES}) == len(CURVES)
    assert len({curve.group for curve in CURVES}) >= 10
    for curve in CURVES:
        assert len(curve.ranks) == len(curve.values) >= 4
        assert list(curve.ranks) == sorted(set(curve.ranks))
        assert urlsplit(curve.source).netloc
        assert curve.measured
        assert curve.unit


@pytest.mark.parametrize("by_group", [False, True])
def test_the_last_rank_count_is_predicted(by_group):
    """Whether an interval holds is judged by the constant of the other curves, or of other sources."""
    results = hold_out(CURVES, by_group=by_group)
    found = accuracy(results)
    assert found.median_error < 0.10
    assert 0.90 <= found.held / found.curves <= 0.98
    assert found.median_error < found.median_error_linear / 2
    assert found.ninth_decile < found.ninth_decile_last_efficiency
    assert found.without_law <= 2


def test_the_constant_of_the_interval_is_the_calibrated_one():
    assert pytest.approx(calibrated_doubling_error(CURVES), abs=5e-4) == DOUBLING_ERROR


def test_predictions_two_doublings_ahead():
    ahead = {judged.doublings: judged for judged in look_ahead(CURVES)}
    assert ahead[2].predictions >= 25
    assert 0.90 <= ahead[2].held / ahead[2].predictions <= 0.98
    assert ahead[2].median_error < 0.10


def test_the_conformal_quantile():
    assert conformal_quantile(list(range(1, 40))) == 38
    assert conformal_quantile([3.0, 1.0, 2.0]) == 3.0, "of few errors the largest"
