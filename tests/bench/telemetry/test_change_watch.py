"""The schedule of an energy counter's calls, on a simulated counter that is as slow to read as an H200's."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, cycle, islice, pairwise

import pytest

from bench.telemetry.probes.nvml.change_watch import SPACING_S, ChangeWatch

CALL_S = 0.0033
USUAL = (0.1,)
IRREGULAR = (0.1, 0.124, 0.098, 0.011, 0.1, 0.103)
"""What an H200 showed: 100 ms mostly, 11 to 124 ms at times."""


def watch(intervals, seconds, near_edge, value_at=None):
    """The readings, the moments of the counter's changes, and the number of calls."""
    changes = list(islice(accumulate(cycle(intervals)), 1000))
    counter, readings, calls, now = ChangeWatch(0.1), [], 0, 0.05
    while now < seconds:
        now = max(now, counter.due_s(near_edge))
        value = value_at(now) if value_at else 1000.0 + bisect_right(changes, now + CALL_S / 2)
        reading = counter.observe(value, now, now + CALL_S)
        calls, now = calls + 1, now + CALL_S
        if reading is not None:
            readings.append(reading)
    return readings, changes, calls


@pytest.mark.parametrize("intervals", [USUAL, IRREGULAR])
@pytest.mark.parametrize("near_edge", [True, False])
def test_a_change_is_known_to_a_call(intervals, near_edge):
    readings, changes, _ = watch(intervals, 20.0, near_edge)
    for reading in readings:
        after = int(reading.value - 1000)
        assert reading.at_s == pytest.approx(changes[after - 1], abs=CALL_S)


def test_near_the_ends_of_a_window_every_change_is_found():
    readings, _, calls = watch(USUAL, 10.0, near_edge=True)
    assert len(readings) >= 97
    assert calls / len(readings) < 6, "not all the time"


def test_far_from_them_few_calls_are_made():
    readings, _, calls = watch(USUAL, 60.0, near_edge=False)
    assert 57 <= len(readings) <= 60
    assert calls * CALL_S < 0.02 * 60, "of one core"
    gaps = [late.at_s - early.at_s for early, late in pairwise(readings)]
    assert max(gaps) == pytest.approx(SPACING_S, abs=2 * CALL_S)


def test_a_counter_that_stands_still_is_read_and_not_waited_for():
    readings, _, calls = watch(USUAL, 10.0, near_edge=False, value_at=lambda now: 5.0)
    assert {reading.value for reading in readings} == {5.0}
    assert 6 <= len(readings) <= 10
    assert calls * 0.004 < 0.35 * 10


def test_a_call_that_fails_is_repeated_later():
    readings, _, calls = watch(USUAL, 10.0, near_edge=False, value_at=lambda now: None if now < 5 else now)
    assert len([reading for reading in readings if reading.at_s > 5]) >= 3
    assert not [reading for reading in readings if reading.at_s < 5]
    assert calls < 60


def test_a_change_during_a_pause_of_the_calls_is_no_change_that_is_known():
    counter = ChangeWatch(0.1)
    assert counter.observe(1.0, 0.0, CALL_S) is None
    assert counter.observe(2.0, 0.7, 0.7 + CALL_S).value is None, "it may have been at any moment in 0.7 s"
    found = counter.observe(3.0, 0.704, 0.704 + CALL_S)
    assert (found.value, found.at_s) == (3.0, pytest.approx(0.702 + CALL_S / 2))


def test_calls_that_are_always_too_far_apart_are_unknown_and_not_silent():
    """As of a driver that takes 0.3 s a call, or of very many GPUs in turn."""
    counter = ChangeWatch(0.1)
    readings = [counter.observe(float(number), 0.3 * number, 0.3 * number + 0.3) for number in range(6)]
    assert [reading and reading.value for reading in readings] == [None] * 6
    assert all(reading is not None for reading in readings[1:])
