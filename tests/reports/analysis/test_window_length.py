"""How long windows are to be, by simulated trials whose spread within and between is known."""

from __future__ import annotations

import math
import random
from statistics import fmean, variance

import pytest

from harness.sweep.windows import known_spreads, with_chosen_windows
from reports.analysis.trial_measures import settings_of
from reports.analysis.window_length import bounds_s, optimal_length_s, spread_of
from tests.support.builders import make_case, make_record, make_trial

CASE = make_case(ranks=1, window_s=1.0, adapt_window=True, telemetry="off")
STEP_S, OTHER_S = 0.01, 0.3


def simulate(case, round_number, within, between, draw):
    """A trial of steps with a relative standard deviation ``within``, whose mean has ``between``."""
    level_s = STEP_S * math.exp(draw.gauss(0, between))
    count = max(20, round(case.target_window_s / STEP_S))
    steps = tuple(level_s * draw.lognormvariate(-(within**2) / 2, within) for _ in range(count))
    record = make_record(step_s=steps)
    return make_trial(case, round_number, ranks=(record,), wall_s=sum(steps) + OTHER_S)


def windows_of(within, between, case=CASE, rounds=6, seed=1):
    """The windows that are chosen round by round."""
    draw, trials, chosen = random.Random(seed), [], []
    for number in range(rounds):
        (now,) = with_chosen_windows([case], number, known_spreads(trials))
        chosen.append(now.chosen_window_s)
        trials.append(simulate(now, number, within, between, draw))
    return chosen


def test_two_rounds_say_how_long_the_next_windows_are():
    chosen = windows_of(within=0.3, between=0.02)
    assert chosen[:2] == [None, None]
    assert all(chosen[2:])
    assert all(0.25 <= length <= 1 for length in chosen[2:])


def test_windows_are_short_where_trials_differ_and_as_given_where_steps_do():
    assert windows_of(within=0.02, between=0.1)[-1] == 0.25
    assert windows_of(within=1.0, between=1e-6, seed=3)[-1] > 0.9


def test_the_length_is_where_variance_times_time_is_least():
    within, between = 0.02, 0.01
    best_s = optimal_length_s(OTHER_S, within, between)

    def cost(length_s):
        return (between + within / length_s) * (OTHER_S + length_s)

    assert all(cost(best_s) <= cost(best_s * factor) for factor in (0.5, 0.9, 1.1, 2))
    assert optimal_length_s(OTHER_S, within, 0.0) == math.inf


def test_a_resumed_sweep_chooses_as_before_whatever_the_round_holds_already():
    draw = random.Random(2)
    trials = [simulate(CASE, number, 0.3, 0.02, draw) for number in range(2)]
    before = with_chosen_windows([CASE], 2, known_spreads(trials))
    assert with_chosen_windows([CASE], 2, known_spreads([*trials, simulate(CASE, 2, 0.3, 0.5, draw)])) == before
    fixed = CASE.model_copy(update={"adapt_window": False})
    assert with_chosen_windows([fixed], 2, known_spreads(trials)) == [fixed]


def test_trials_without_a_number_or_with_few_steps_say_nothing():
    assert spread_of(make_trial(CASE, 0, outcome="failed", reason="killed", ranks=())) is None
    assert spread_of(make_trial(CASE, 0, ranks=(make_record(step_s=(0.1,) * 19),))) is None


def test_windows_keep_what_readings_need():
    assert bounds_s(CASE) == (0.25, 1.0)
    assert bounds_s(make_case(ranks=1, window_s=1.0)) == (0.7, 1.0)
    assert bounds_s(make_case(ranks=1, window_s=0.1)) == (0.1, 0.1)
    assert bounds_s(make_case(ranks=1, window_s=2.0, device="cuda")) == (2.0, 2.0)


def test_nights_with_adapted_windows_are_compared_with_each_other_only():
    chosen = CASE.model_copy(update={"chosen_window_s": 0.4})
    assert settings_of(chosen) == settings_of(CASE)
    assert chosen.key == CASE.key == make_case(ranks=1).key
    assert settings_of(CASE)["window_s"] == "auto, from 1.0"
    assert settings_of(make_case(ranks=1))["window_s"] == "1.0"


def test_the_mean_of_a_cell_is_unbiased_and_known_better_for_the_time():
    """Variance × time of many simulated sweeps, where trials differ as much as the steps of a trial."""
    within, between, products = 0.05, 0.05, {}
    for adapt in (False, True):
        case = CASE.model_copy(update={"adapt_window": adapt})
        means, times = [], []
        for seed in range(60):
            draw, trials = random.Random(seed), []
            for number in range(5):
                (now,) = with_chosen_windows([case], number, known_spreads(trials))
                trials.append(simulate(now, number, within, between, draw))
            means.append(fmean(spread_of(trial).log_rate for trial in trials))
            times.append(sum(trial.wall_s for trial in trials))
        products[adapt] = variance(means) * fmean(times)
        expected = math.log(make_record(step_s=(STEP_S,)).amount_per_step / STEP_S)
        assert fmean(means) == pytest.approx(expected, abs=4 * math.sqrt(variance(means) / 60))
    assert products[True] < 0.8 * products[False]
