"""How long a sweep is said to take, before it starts."""

from __future__ import annotations

import pytest

from harness.planning.environment import machine_name
from harness.planning.plan import Plan
from harness.store.opening import open_store
from harness.store.past_trials import PastTrial, read_past_trials
from harness.sweep.duration import SweepDuration, predict_by_store, predict_duration
from tests.support.builders import make_case, make_trial
from tests.support.stores import begin


def plan_of(*cases, repeats=3) -> Plan:
    return Plan(cases=cases, skips=(), not_applicable=(), repeats=repeats)


def past(wall_s, number=1, **changes) -> PastTrial:
    return PastTrial(case=make_case(**changes), round=number, wall_s=wall_s)


def test_trials_of_the_same_case_and_round_count_and_others_do_not():
    stored = [past(9.0, number=0), past(5.0), past(7.0), past(50.0, backend="horovod"), past(80.0, ranks=4)]
    duration = predict_duration(plan_of(make_case()), stored)
    assert duration.seconds == pytest.approx(9.0 + 6.0 + 6.0)
    assert (duration.past_trials, duration.reason) == (3, None)
    assert duration.low_s < duration.seconds < duration.high_s
    assert duration.high_s >= 9.0 + 7.0 + 7.0


def test_a_longer_window_adds_its_length_and_in_the_first_round_twice():
    stored = [past(9.0, number=0, own_cost=True), past(5.0)]
    case = make_case(window_s=3.0, own_cost=True)
    assert predict_duration(plan_of(case, repeats=2), stored).seconds == pytest.approx(9.0 + 2 * 2.0 + 5.0 + 2.0)


def test_a_window_that_was_shortened_says_how_long_a_whole_one_takes():
    stored = [past(4.3, window_s=1.0, chosen_window_s=0.3)]
    assert predict_duration(plan_of(make_case(window_s=1.0), repeats=1), stored).seconds == pytest.approx(5.0)


@pytest.mark.parametrize(
    "changes", [{"workload": "mnist"}, {"ranks": 4}, {"backend": "fsdp"}, {"workload_options": {"heads": 2}}]
)
def test_an_unknown_case_is_expected_to_last_as_long_as_a_like_one_with_a_wider_range(changes):
    known, other = (
        predict_duration(plan_of(case, repeats=1), [past(6.0, number=0)])
        for case in (make_case(), make_case(**changes))
    )
    assert known.seconds == other.seconds == 6.0
    assert other.high_s - other.low_s > known.high_s - known.low_s


def test_a_nearer_trial_is_taken_before_a_newer_one():
    stored = [past(50.0, backend="dask"), past(20.0, ranks=4), past(4.0, workload="mnist")]
    assert predict_duration(plan_of(make_case(), repeats=1), stored).seconds == 4.0


def test_trials_of_another_site_say_nothing():
    duration = predict_duration(plan_of(make_case(site="slurm")), [past(5.0)])
    assert duration.seconds is None
    assert duration.reason == "no trial of this machine is stored yet"
    assert duration.text() == "unknown; the measured windows alone take about 3 s"
    assert predict_duration(plan_of(make_case(steps=10)), []).text() == "unknown", "how long steps take is not known"


@pytest.mark.parametrize(
    ("seconds", "low_s", "high_s", "text"),
    [
        (180.0, 120.0, 300.0, "about 3 min (2–5)"),
        (218.0, 177.0, 240.0, "about 4 min (3–4)"),
        (120.0, 60.0, 140.0, "about 2.0 min (1.0–2.3)"),
        (42.3, 39.8, 55.1, "about 42 s (40–55)"),
        (5400.0, 4000.0, 9000.0, "about 1.5 h (1.1–2.5)"),
        (3.02, 3.01, 3.04, "about 3 s"),
    ],
)
def test_a_range_has_the_unit_of_its_mean(seconds, low_s, high_s, text):
    duration = SweepDuration(seconds=seconds, low_s=low_s, high_s=high_s, windows_s=1.0, past_trials=9)
    assert duration.text() == text


def test_a_store_that_is_absent_or_damaged_is_a_reason_and_nothing_is_written(tmp_path):
    absent, damaged = tmp_path / "absent.sqlite", tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert predict_by_store(plan_of(make_case()), str(absent)).reason == "no trial of this machine is stored yet"
    assert "damaged.sqlite" in predict_by_store(plan_of(make_case()), str(damaged)).reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.sqlite"]


def test_the_newest_good_trials_of_this_machine_are_read_and_damaged_ones_left_out(tmp_path, monkeypatch):
    place = str(tmp_path / "r.sqlite")
    store = open_store(place, create=True)
    for name, started_at, wall_s in (("old", "2026-01-01", 4.0), ("new", "2026-02-01", 6.0)):
        begin(store, name, f"{started_at}T00:00:00+00:00")
        store.add_trial(name, make_trial(make_case(), 1, wall_s=wall_s))
        store.add_trial(name, make_trial(make_case(), 2, outcome="failed", reason="it fell", wall_s=90.0))
    monkeypatch.setenv("SCALING_MACHINE", "elsewhere")
    begin(store, "theirs", "2026-03-01T00:00:00+00:00")
    store.add_trial("theirs", make_trial(make_case(), 1, wall_s=70.0))
    monkeypatch.delenv("SCALING_MACHINE")
    with store.database.writing("") as connection:
        connection.exec_driver_sql(
            "insert into trials select sweep, 'k', 9, outcome, '{\"case\": 1}' from trials where sweep = 'new' limit 1"
        )
    assert [trial.wall_s for trial in read_past_trials(store, machine_name())] == [6.0, 4.0]
    store.close()
    assert predict_by_store(plan_of(make_case(), repeats=1), place).past_trials == 2
