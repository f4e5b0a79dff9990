"""What verdicts quote, and the measuring of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from reports.regression import rule
from reports.regression.calibration import (
    Calibration,
    Power,
    assurance_of,
    calibrate,
    proportion,
    resampled_suite,
    synthetic_suite,
)
from reports.regression.rule import RULE, RULE_MODULES, rule_fingerprint, shipped_assurance
from reports.regression.synthetic_histories import NOISE_MODELS, synthetic_histories
from tests.support.histories import unchanged


def measured(make, checks=100, slowdowns=(0.2,)) -> Calibration:
    *_, found = calibrate(make, "here", checks, slowdowns, RULE)
    assert isinstance(found, Calibration)
    return found


def test_what_is_shipped_was_measured_with_this_rule():
    """Where this fails: `python -m harness check --calibrate --keep reports/regression/assurance.json`."""
    found = shipped_assurance()
    assert found is not None, "the rule has changed since it was measured"
    assert found.checks >= 30_000
    assert found.false_alarm_high < 0.001
    assert rule_fingerprint(RULE) != rule_fingerprint(RULE.model_copy(update={"boundary_z": 3.0}))
    assert shipped_assurance(RULE.model_copy(update={"boundary_z": 3.0})) is None


def changed_rule(folder, old="", new=""):
    """The fingerprint of copies of the rule's modules, in one of which a piece of text was replaced."""
    for name in RULE_MODULES:
        source = Path(rule.__file__).with_name(f"{name}.py").read_text()
        (folder / f"{name}.py").write_text(source.replace(old, new) if old else source)
    return rule_fingerprint(RULE, folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Median of the present values', '"""The median, of the present values'),
        ("    # The median of χ²(ν)", "    # As ever, the median of χ²(ν)"),
        ("NORMAL_MAD = 1.4826\n", "\n\nNORMAL_MAD   =   1.4826\n"),
        ("from reports.regression.robust import", "from elsewhere import"),
    ],
)
def test_words_and_layout_leave_the_measured_rates_valid(tmp_path, old, new):
    unchanged_code = changed_rule(tmp_path)
    assert changed_rule(tmp_path, old, new) == unchanged_code == rule_fingerprint(RULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NORMAL_MAD = 1.4826", "NORMAL_MAD = 1.5"),
        ("z > boundary", "z >= boundary"),
        ("np.fmax.reduce(z", "np.fmin.reduce(z"),
        ("(small |", "(small &"),
        ("MIN_PAIRS_FOR_MAD = 6", "MIN_PAIRS_FOR_MAD = None"),
    ],
)
def test_a_change_of_the_code_makes_the_measured_rates_void(tmp_path, old, new):
    assert changed_rule(tmp_path, old, new) != rule_fingerprint(RULE)


@pytest.mark.parametrize("model", NOISE_MODELS)
def test_a_world_is_measured(model):
    found = measured(partial(synthetic_suite, NOISE_MODELS[model]))
    assert found.false_alarms.of == 100
    assert found.false_alarms.count <= 1
    assert 0 < found.suspects.value < 0.5
    assert 0 < found.extra_trials < 1
    assert all(power.found.value > 0.9 for power in found.powers)


def test_histories_are_the_same_from_the_same_seed_and_differ_otherwise():
    one, two, other = (synthetic_histories(NOISE_MODELS["foreign"], 3, 5, seed).trials for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_a_stores_own_history_is_resampled_without_its_changes():
    series, _ = unchanged(4, nights=20)
    found = measured(partial(resampled_suite, series))
    assert found.false_alarms.count <= 1
    assert found.powers[-1].found.value > 0.9
    short, _ = unchanged(4, nights=5)
    assert list(calibrate(partial(resampled_suite, short), "here", 100, (0.1,), RULE)) == []


def test_intervals_of_shares_are_those_of_clopper_and_pearson():
    assert proportion(0, 30_000).high == pytest.approx(1 - 0.025 ** (1 / 30_000))
    assert (proportion(0, 10).low, proportion(10, 10).high) == (0.0, 1.0)
    half = proportion(5, 10)
    assert (half.low, half.high) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))


def test_a_slowdown_is_quoted_where_it_is_found_under_every_noise_model():
    def calibration_of(good: int) -> Calibration:
        return Calibration(
            source="w",
            false_alarms=proportion(1, 1000),
            improved=proportion(0, 10),
            suspects=proportion(1, 10),
            extra_trials=0.4,
            powers=(
                Power(slowdown_pct=5, nights_more=1, found=proportion(good, 100)),
                Power(slowdown_pct=10, nights_more=1, found=proportion(100, 100)),
            ),
        )

    assert assurance_of([calibration_of(99), calibration_of(96)], "c").found_pct == {"2": 5}
    assert assurance_of([calibration_of(99), calibration_of(90)], "c").found_pct == {"2": 10}
    assert assurance_of([calibration_of(99), calibration_of(90)], "c").false_alarms == 2
