"""The verdict of tonight holds tonight: against all nights before, and against those since the last improvement."""

from __future__ import annotations

import math

import pytest

from reports.regression.judge import judge
from reports.regression.values import NightTrials
from tests.support.histories import history, lost_improvements, nights_of, unchanged

USUAL = (1.0,) * 20


def verdict_on(*levels_s, seed=0):
    (verdict,) = judge([history(levels_s, seed)])
    return verdict


def test_a_single_fast_night_improves_nothing_the_night_after():
    for seed in range(10):
        verdict = verdict_on(*USUAL, 0.7, 1.0, seed=seed)
        assert verdict.status in ("pass", "suspect")
        assert abs(verdict.change_pct) < 5, "it is compared with the usual level"


def test_a_level_that_was_lost_is_what_tonight_is_compared_with():
    verdict = verdict_on(*USUAL, 0.7, 0.7, 0.7, 0.7, 1.0)
    assert verdict.status == "suspect"
    assert verdict.change_pct == pytest.approx(43, abs=3)
    assert verdict.compared_since == "night-20"
    assert "against the nights since night-20" in verdict.reason


@pytest.mark.parametrize("lasted", range(1, 7))
@pytest.mark.parametrize("size", [0.1, 0.3])
def test_an_improvement_that_was_lost_is_never_praised(lasted, size):
    verdicts = [judge([lost])[0] for lost in lost_improvements(lasted, size=size)]
    assert "improved" not in {verdict.status for verdict in verdicts}
    if lasted > 1:
        assert {verdict.status for verdict in verdicts} == {"suspect"}
        assert all(verdict.change_pct > 100 * size * 0.8 for verdict in verdicts)


@pytest.mark.parametrize("since", range(1, 6))
def test_an_improvement_that_lasts_is_praised_with_its_own_size_and_then_is_the_level(since):
    verdicts = [verdict_on(*USUAL, *(0.7,) * since, seed=seed) for seed in range(8)]
    improved = [verdict for verdict in verdicts if verdict.status == "improved"]
    assert len(improved) >= 4, "the others are suspected to be a little slower than the new level"
    assert all(verdict.change_pct == pytest.approx(-30, abs=2) for verdict in improved)
    later = verdict_on(*USUAL, *(0.7,) * 8)
    assert (later.status, later.compared_since) == ("pass", "night-20")
    assert abs(later.change_pct) < 3


@pytest.mark.parametrize("lasted", range(1, 7))
def test_a_slowdown_that_is_over_is_not_suspected(lasted):
    for seed in range(5):
        verdict = verdict_on(*USUAL, *(1.4,) * lasted, 1.0, seed=seed)
        assert verdict.status in ("pass", "suspect")
        assert verdict.change_pct < 5, "a suspicion is about tonight's own change, if any"


def test_a_slowdown_that_is_not_over_stays_suspect():
    for lasted in range(1, 6):
        verdict = verdict_on(*USUAL, *(1.4,) * lasted)
        assert (verdict.status, verdict.change_pct) == ("suspect", pytest.approx(40, abs=4))


def test_a_small_loss_within_a_young_level_is_seen():
    verdict = verdict_on(*USUAL, *(0.7,) * 9, 0.74)
    assert verdict.status == "suspect"
    assert verdict.change_pct == pytest.approx(5.7, abs=2)


def test_a_level_that_was_lost_some_nights_ago_is_still_the_level():
    for nights in (2, 3, 5):
        verdict = verdict_on(*USUAL, *(0.7,) * 4, *(1.0,) * nights)
        assert (verdict.status, verdict.compared_since) == ("suspect", "night-20")


def test_nights_with_a_known_regression_do_not_push_the_level_out_of_sight():
    levels = history((*USUAL, 0.7, 0.7, 0.7, *(1.0,) * 30))
    past = tuple(night.model_copy(update={"good": number < 23}) for number, night in enumerate(levels.past))
    (verdict,) = judge([levels.model_copy(update={"past": past})])
    assert (verdict.status, verdict.compared_since) == ("suspect", "night-20")


def test_a_step_improvement_is_no_drift():
    """Nights at two levels, taken for a steady drift, foretell a value that tonight misses."""
    verdicts = [verdict_on(*(1.0,) * 24, *(0.9,) * 6, 0.9, seed=seed) for seed in range(20)]
    assert sum(verdict.status == "suspect" for verdict in verdicts) <= 8
    assert all(abs(verdict.change_pct) < 3 for verdict in verdicts)


def test_unchanged_series_have_no_levels():
    series, _ = unchanged(200)
    verdicts = judge(series)
    assert sum(verdict.compared_since is not None for verdict in verdicts) <= 2


def test_an_accepted_level_is_older_than_an_improvement_since():
    accepted = nights_of([[math.log(1.3)] * 3] * 8, 20, level=1)
    better = nights_of([[math.log(1.1)] * 3] * 3, 28, level=1)
    tonight = NightTrials(night="now", logs=(math.log(1.3),) * 3, level=1)
    base = history((*USUAL, 1.0))
    series = base.model_copy(update={"past": (*base.past[:20], *accepted, *better), "newest": tonight})
    (verdict,) = judge([series])
    assert (verdict.status, verdict.compared_since) == ("suspect", "night-28")
    assert verdict.change_pct == pytest.approx(18, abs=3)
