"""Efficiency, serial fraction and exposed communication are judged only where their base is unchanged."""

from __future__ import annotations

import random

import pytest

from reports.regression.evidence import EarlierVerdicts, NightFacts
from reports.regression.judge import judge_series
from reports.regression.night_series import paired_series, series_of
from reports.regression.rule import RULE
from tests.support.builders import make_case

CASES = tuple(make_case(ranks=ranks, backend="ddp") for ranks in (1, 2, 4))
KEYS = {case.ranks: case.key for case in CASES}
STEP_S = {1: 0.003, 2: 0.004, 4: 0.006}
EXPOSED = {1: 0.0, 2: 0.25, 4: 0.4}
"""Share of a step that is exposed communication."""


def numbers(seed, step_s=None, exposed_s=None, trials=5):
    """By case key, then trial: what was measured, with 1 % of noise."""
    noise = random.Random(seed)
    measured = {}
    for ranks, usual_s in STEP_S.items():
        value_s = (step_s or {}).get(ranks, usual_s)
        hidden_s = (exposed_s or {}).get(ranks, EXPOSED[ranks] * usual_s)
        factors = [1 + noise.gauss(0, 0.01) for _ in range(trials)]
        measured[KEYS[ranks]] = {
            number: {"step_s": value_s * factor, "rate": 8 / (value_s * factor), "exposed_s": hidden_s * factor}
            for number, factor in enumerate(factors)
        }
    return measured


def night(number, **changes):
    return NightFacts(f"night-{number:02d}", f"{number:02d}", {}, f"c{number}", numbers(number, **changes), {})


def judged(*newest, pairs=None, usual=20):
    """Verdicts by metric and ranks, the newest night after ``usual`` alike ones and all others given."""
    nights = [night(number) for number in range(usual)]
    nights += [night(usual + number, **changes) for number, changes in enumerate(newest)]
    series = series_of(CASES, nights[-1], nights[:-1], EarlierVerdicts(), pairs or {})
    return {(subject.metric, subject.ranks): verdict for subject, _, verdict in judge_series(series, RULE)}


def in_pairs(**head):
    """The same for 40 pairs of a base that is as usual, without nights."""
    pairs = {"head": numbers("head", trials=40, **head), "base": numbers("base", trials=40)}
    members = judge_series(paired_series(CASES, pairs), RULE, by_pairs_only=True)
    return {(subject.metric, subject.ranks): verdict for subject, _, verdict in members}


RATIOS = [("efficiency", 2), ("efficiency", 4), ("serial", 4)]
ALL_SLOWER = {"step_s": {ranks: usual_s + 0.01 for ranks, usual_s in STEP_S.items()}}
"""10 ms more in every step of every rank count: the efficiency rises."""
FIRST_SLOWER = {"step_s": {1: 0.006}}
FIRST_FASTER = {"step_s": {1: 0.002}}
LAST_SLOWER = {"step_s": {4: 0.009}, "exposed_s": {4: 0.0054}}


def test_a_slowdown_of_all_rank_counts_is_no_improvement_of_scaling():
    verdicts = judged(ALL_SLOWER)
    assert "improved" not in {verdict.status for verdict in verdicts.values()}
    assert {verdicts["step", ranks].status for ranks in STEP_S} == {"suspect"}
    for ratio in RATIOS:
        assert verdicts[ratio].status == "new"
        assert verdicts[ratio].reason.startswith("not judged: its base (1 rank: throughput) is suspect, ÷4")
        assert verdicts[ratio].change_pct is None


def test_nor_in_pairs():
    verdicts = in_pairs(**ALL_SLOWER)
    assert "improved" not in {verdict.status for verdict in verdicts.values()}
    assert {verdicts["step", ranks].status for ranks in STEP_S} == {"regressed"}
    assert {verdicts[ratio].status for ratio in RATIOS} == {"new"}


def test_exposed_communication_that_shrinks_as_computing_slows_down_is_no_improvement():
    for verdicts in (judged(ALL_SLOWER), in_pairs(**ALL_SLOWER)):
        exposed = verdicts["exposed", 4]
        assert exposed.status == "pass"
        assert "the rest of its step" in exposed.reason


@pytest.mark.parametrize("change", [FIRST_SLOWER, FIRST_FASTER])
def test_a_base_that_changed_alone_changes_no_scaling(change):
    assert {judged(change)[ratio].status for ratio in RATIOS} == {"new"}
    pairs = in_pairs(**change)
    assert {pairs[ratio].status for ratio in RATIOS} <= {"new", "pass"}
    assert all("its base (1 rank: throughput)" in pairs[ratio].reason for ratio in RATIOS)


def test_a_loss_at_more_ranks_over_an_unchanged_base_is_judged():
    nights, pairs = judged(LAST_SLOWER), in_pairs(**LAST_SLOWER)
    for ratio in [("efficiency", 4), ("serial", 4), ("exposed", 4)]:
        assert nights[ratio].status == "suspect"
        assert pairs[ratio].status == "regressed"
    assert pairs["efficiency", 2].status == "pass"


def test_a_gain_at_more_ranks_over_an_unchanged_base_is_one():
    verdicts = judged({"step_s": {4: 0.004}, "exposed_s": {4: 0.0008}})
    assert {verdicts[ratio].status for ratio in [("efficiency", 4), ("serial", 4), ("exposed", 4)]} == {"improved"}


def test_a_base_that_moves_as_much_as_the_cell_explains_the_ratio():
    """Neither is suspect by itself: 0.9 % faster on one rank is too little, and so is none on four."""
    verdicts = in_pairs(step_s={1: 0.003 * 0.988, 4: 0.006 * 1.001})
    ratio = verdicts["efficiency", 4]
    assert verdicts["step", 4].status == "pass"
    assert ratio.status in ("pass", "new")
    assert "base" in ratio.reason


def test_after_an_improvement_of_the_base_older_nights_do_not_count_for_the_ratio():
    verdicts = judged(*[FIRST_FASTER] * 9)
    assert verdicts["throughput", 1].status == "pass"
    assert verdicts["throughput", 1].compared_since == "night-20"
    for ratio in RATIOS:
        assert verdicts[ratio].status in ("pass", "suspect")
        assert abs(verdicts[ratio].change_pct) < 4, "nights of the former base are 33 % away"
    lost = judged(*[FIRST_FASTER] * 9, {**FIRST_FASTER, "step_s": {1: 0.002, 4: 0.009}})
    assert lost["efficiency", 4].status == "suspect", "a loss since then is seen"
