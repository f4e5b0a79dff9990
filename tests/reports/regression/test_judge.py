"""The rule on series whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.regression.judge import THRESHOLD_SERIES, judge
from reports.regression.paired_test import confirm, confirm_all
from reports.regression.rule import RULE, Rule
from reports.regression.screen import SeriesArrays, suspicion_threshold
from reports.regression.values import MetricSeries, NightTrials
from tests.support.histories import nights_of, slowed, unchanged

UNKNOWN = np.full(4000, np.nan)


def test_no_unchanged_series_is_called_regressed_whatever_its_pairs():
    series, drawn = unchanged(200)
    pairs = drawn.pairs(40)
    verdicts = judge([one.model_copy(update={"pairs": tuple(row)}) for one, row in zip(series, pairs, strict=True)])
    assert {verdict.status for verdict in verdicts} <= {"pass", "improved", "inconclusive"}
    assert any(verdict.pairs_used for verdict in verdicts), "some were suspected"


def test_a_slowdown_is_suspected_and_then_confirmed_with_its_size():
    series, drawn = unchanged(50)
    slow = [slowed(one, math.log(1.1)) for one in series]
    suspects = judge(slow)
    assert {verdict.status for verdict in suspects} == {"suspect"}
    assert {verdict.pairs_wanted for verdict in suspects} == {RULE.looks[0]}
    pairs = drawn.pairs(40, 0.1)
    output = judge([one.model_copy(update={"pairs": tuple(row)}) for one, row in zip(slow, pairs, strict=True)])
    assert {verdict.status for verdict in output} == {"regressed"}
    assert all(verdict.low_pct <= verdict.change_pct <= verdict.high_pct for verdict in output)
    assert sum(verdict.low_pct <= 10 <= verdict.high_pct for verdict in output) >= 40
    assert all(verdict.pairs_wanted == 0 for verdict in output)


def test_a_suspicion_without_pairs_is_never_an_answer():
    series, _ = unchanged(50)
    doubled = judge([slowed(one, math.log(2)) for one in series])
    assert {verdict.status for verdict in doubled} == {"suspect"}
    assert all(90 < verdict.change_pct < 110 for verdict in doubled)


def test_more_pairs_continue_the_same_test():
    (one,), drawn = unchanged(1, seed=3)
    slow = slowed(one, math.log(1.08))
    row = tuple(drawn.pairs(40, 0.08)[0])
    asked, seen = 0, []
    while True:
        (verdict,) = judge([slow.model_copy(update={"pairs": row[:asked]})])
        seen.append(verdict)
        if verdict.status != "suspect":
            break
        assert verdict.pairs_wanted > asked
        asked = verdict.pairs_wanted
    assert verdict.status == "regressed"
    (all_of_them,) = judge([slow.model_copy(update={"pairs": row})])
    assert all_of_them == verdict, "what was decided stays decided"
    assert verdict.pairs_used == asked


@given(st.lists(st.floats(-0.2, 0.2), max_size=45))
@settings(max_examples=60)
def test_pairs_of_any_number_give_an_answer_or_ask_for_more(pairs):
    found = confirm(pairs, 0.03, RULE)
    assert (found.answer == "more") == (found.wanted > len(pairs))
    assert found.used <= len(pairs)
    mirrored = confirm([-one for one in pairs], 0.03, RULE)
    assert (found.answer == "slower") <= (mirrored.answer in ("faster", "unchanged"))


def test_pairs_without_a_history_need_more_of_them():
    known = confirm([0.08, 0.05, 0.11, 0.08], 0.015, RULE)
    unknown = confirm([0.08, 0.05, 0.11, 0.08], math.nan, RULE)
    assert (known.answer, unknown.answer) == ("slower", "more")
    assert confirm([0.08, 0.07, 0.09, 0.08, 0.07, 0.09] * 2, math.nan, RULE).answer == "slower"


def test_pairs_without_a_history_raise_no_false_alarm_on_a_noisy_machine():
    noisy = np.random.default_rng(5).normal(0, 0.14, (4000, 40))
    answers = [one.answer for one in confirm_all(noisy, UNKNOWN, RULE, UNKNOWN)]
    assert answers.count("slower") <= 6, "0.05 % would be two"


def test_too_few_nights_are_new_unless_pairs_decide():
    (one,), drawn = unchanged(1, nights=2)
    assert judge([one])[0].status == "new"
    assert "2 comparable nights" in judge([one])[0].reason
    slow = one.model_copy(update={"pairs": tuple(drawn.pairs(40, 0.2)[0])})
    assert judge([slow])[0].status == "regressed"


def test_what_is_known_without_a_judge_is_passed_on():
    for status in ("failed", "missing", "incomparable"):
        (verdict,) = judge([MetricSeries(name="one", outcome=status, reason="why")])
        assert (verdict.status, verdict.reason) == (status, "why")
    assert judge([MetricSeries(name="one")])[0].status == "missing"
    assert judge([]) == ()


def test_a_regression_that_was_not_accepted_does_not_become_the_reference():
    (one,), _ = unchanged(1, nights=40, seed=2)
    late = [[log + math.log(1.1) for log in night.logs] for night in one.past[-20:]]
    crept = one.past[:-20] + nights_of(late, 20, good=False)
    known = slowed(one.model_copy(update={"past": crept}), math.log(1.1))
    assert judge([known])[0].status == "suspect", "twenty slow nights later it is still slow"
    forgotten = known.model_copy(update={"past": one.past[:-20] + nights_of(late, 20)})
    assert judge([forgotten])[0].status == "pass", "had nobody said that they were bad"


def test_an_accepted_level_is_the_new_base():
    (one,), _ = unchanged(1, nights=40, seed=2)
    late = [[log + math.log(1.2) for log in night.logs] for night in one.past[-2:]]
    newest = NightTrials(night="now", logs=tuple(log + math.log(1.2) for log in one.newest.logs), level=1)
    accepted = one.model_copy(update={"past": one.past[:-2] + nights_of(late, 38, level=1), "newest": newest})
    assert judge([accepted])[0].status == "pass"
    slower = slowed(accepted, math.log(1.15))
    assert judge([slower])[0].status == "suspect", "a further slowdown is one"


def test_more_is_better_turns_the_sign_for_people():
    (one,), drawn = unchanged(1)
    rate = slowed(one, math.log(1.1)).model_copy(
        update={"metric": "throughput", "more_is_better": True, "pairs": tuple(drawn.pairs(40, 0.1)[0])}
    )
    (verdict,) = judge([rate])
    assert verdict.status == "regressed"
    assert verdict.low_pct < verdict.change_pct < verdict.high_pct < 0
    assert verdict.change_pct == pytest.approx(-9, abs=3)


def test_an_improvement_is_no_alarm():
    series, _ = unchanged(20)
    output = judge([slowed(one, math.log(0.8)) for one in series])
    assert {verdict.status for verdict in output} == {"improved"}
    assert all(verdict.change_pct < -15 for verdict in output)


def test_one_night_may_be_the_only_reference():
    (one,), _ = unchanged(1)
    past = tuple(night.model_copy(update={"good": night.night == "night-03"}) for night in one.past)
    pinned = one.model_copy(update={"past": past})
    rule = Rule(windows=(1,), least_nights=1)
    assert judge([pinned], rule)[0].status == "pass"
    assert judge([slowed(pinned, 0.1)], rule)[0].status == "suspect"


def test_numbers_that_never_change_are_not_suspected_for_a_trifle():
    past = tuple(NightTrials(night=str(number), logs=(20.0,) * 5) for number in range(20))
    memory = MetricSeries(name="one", metric="memory", past=past, newest=NightTrials(night="now", logs=(20.003,) * 5))
    assert judge([memory])[0].status == "pass"
    grown = memory.model_copy(update={"newest": NightTrials(night="now", logs=(20.05,) * 5)})
    assert judge([grown])[0].status == "suspect"


def test_night_of_one_trial_each_can_be_judged():
    series, _ = unchanged(5)
    single = [
        one.model_copy(
            update={
                "past": tuple(night.model_copy(update={"logs": night.logs[:1]}) for night in one.past),
                "newest": one.newest.model_copy(update={"logs": one.newest.logs[:1]}),
            }
        )
        for one in series
    ]
    assert [verdict.status for verdict in judge(single)] == ["pass", "pass", "pass", "pass", "suspect"]


@pytest.mark.parametrize("scale", [0.001, math.nan])
def test_a_change_too_small_to_matter_is_none_however_sure(scale):
    tiny = [0.004, 0.0041, 0.0039, 0.004, 0.0042, 0.004] * 7
    assert confirm(tiny, scale, RULE).answer == "unchanged"
    assert confirm([-one for one in tiny], scale, RULE).answer == "unchanged"


def test_a_slowdown_of_the_whole_suite_does_not_raise_the_limit_for_itself():
    series, _ = unchanged(40, nights=45)
    late = 0.1
    slow = []
    for one in series:
        bad = [[log + late for log in night.logs] for night in one.past[-25:]]
        slow.append(slowed(one.model_copy(update={"past": one.past[:-25] + nights_of(bad, 20, good=False)}), late))
    assert {verdict.status for verdict in judge(slow)} == {"suspect"}


def test_only_with_enough_series_the_past_can_raise_the_limit():
    """The verdicts on fewer series are reached without it."""
    noise = np.random.default_rng(0)

    def limit(series):
        levels = np.cumsum(0.05 * noise.standard_t(1.5, (series, 61, 1)), axis=1)  # every night is another level
        trials = levels + noise.normal(0, 0.01, (series, 61, 5))
        known = np.ones((series, 61), dtype=bool)
        return suspicion_threshold(SeriesArrays(trials, known, np.zeros((series, 61), dtype=int)), RULE)

    assert {limit(series) for series in range(1, THRESHOLD_SERIES)} == {RULE.suspicion_z}
    assert limit(2 * THRESHOLD_SERIES) > RULE.suspicion_z


def test_one_series_with_many_bad_nights_moves_no_other():
    series, _ = unchanged(30, nights=40)
    alone = judge(series)
    bad = nights_of([[log + 0.3 for log in night.logs] for night in series[0].past[-20:]], 20, good=False)
    with_it = judge([series[0].model_copy(update={"past": series[0].past[:-20] + bad}), *series[1:]])
    moved = [abs(one.change_pct - two.change_pct) for one, two in zip(alone[1:], with_it[1:], strict=True)]
    assert max(moved) < 0.3


def test_what_was_left_out_of_a_night_is_told_with_its_verdict():
    (one,), _ = unchanged(1, seed=5)
    (verdict,) = judge([one.model_copy(update={"reason": "1 of 5 trials left out"})])
    assert verdict.status == "pass"
    assert "1 of 5 trials left out" in verdict.reason


def test_pairs_wilder_than_the_history_foretells_are_seldom_taken_for_an_answer():
    wild = np.random.default_rng(7).normal(0, 0.06, (4000, 40))
    answers = [one.answer for one in confirm_all(wild, np.full(4000, 0.03), RULE, UNKNOWN)]
    assert answers.count("slower") <= 30, "below one in a hundred suspects at twice the noise"
