"""Warm-up and measured window of a rank, on a clock that the steps themselves advance."""

from __future__ import annotations

import itertools

import pytest

from bench.backends.single import BACKEND
from bench.plugins.backend import Session
from bench.plugins.workload import Work, Workload
from bench.rank import loop
from bench.rank.clock import half_width, time_steps
from bench.rank.loop import WarmupResult, has_settled, warm_up
from tests.support.builders import make_case
from tests.support.clocks import FakeClock


class SingleRank(Session):
    """A session of one rank without torch, which counts how often the ranks agreed on a value."""

    agreements = 0

    def largest(self, value):
        self.agreements += 1
        return value


def steps_of(clock, durations):
    """A step that takes the next of ``durations``, and the last one from then on."""
    left = itertools.chain(durations, itertools.repeat(durations[-1]))
    return lambda: clock.sleep(next(left))


def warm_up_with(durations, **limits):
    clock = FakeClock()
    return warm_up(steps_of(clock, durations), SingleRank(), **{"min_warmup_steps": 1, **limits}, clock=clock)


def test_steps_are_timed_without_gaps():
    clock = FakeClock(now=5.0)
    assert time_steps(steps_of(clock, [0.5, 0.25, 1.0]), 3, clock=clock) == [0.5, 0.25, 1.0]
    assert clock() == 6.75


def test_warm_up_lasts_until_two_blocks_are_alike():
    assert warm_up_with([0.125, 0.25, 0.0625, 0.0625]) == WarmupResult(steps=4, settled=True, step_s=0.0625)


def test_a_warm_up_that_never_settles_ends_when_its_time_is_spent():
    durations = [0.0625 * (1 + number % 2) for number in range(100)]
    # The first step does not count; blocks of one step take 0.125, 0.0625, 0.125, 0.0625, 0.125 s.
    assert warm_up_with(durations, max_s=0.4) == WarmupResult(steps=6, settled=False, step_s=0.125)


def test_a_number_of_warm_up_steps_is_taken_at_least():
    assert warm_up_with([0.0625], min_warmup_steps=9).steps == 9


def test_short_steps_are_taken_in_blocks():
    # 0.05 s hold 5 steps of 1/100 s.
    assert warm_up_with([0.01]) == WarmupResult(steps=11, settled=True, step_s=pytest.approx(0.01))


def test_settled_means_that_two_blocks_are_alike():
    assert has_settled([3.0, 1.0, 1.05])
    assert not has_settled([1.0, 1.0, 1.3])
    assert not has_settled([1.0])


def test_the_interval_of_a_window_is_about_its_mean():
    assert half_width([1.0] * 100) == 0
    assert half_width([1.0] * 19) == float("inf"), "fewer than two steps in each of ten batches"
    drift = [1.0, 2.0] * 10 + [3.0, 4.0] * 10
    # Batch means 1.5 ×5 and 3.5 ×5: 2.262 × 1.0541 ÷ √10 ÷ 2.5.
    assert half_width(drift) == pytest.approx(0.3016, abs=1e-4)
    assert half_width(drift * 10) == pytest.approx(0, abs=1e-9), "ten batches that are all alike"


class UnevenWork(Work):
    """Steps of 1/128 s, and every seventh of 1/16 s."""

    amount_per_step = 1

    def __init__(self, clock):
        self.clock, self.taken = clock, 0

    def step(self):
        self.clock.sleep(1 / 16 if self.taken % 7 == 0 else 1 / 128)
        self.taken += 1

    def verify(self, steps):
        return (), ()

    def snapshot(self):
        return []


class UnevenWorkload(Workload):
    name, summary, kind = "uneven", "", "collective"

    def __init__(self, clock):
        self.clock = clock

    def build(self, case, session):
        return UnevenWork(self.clock)


@pytest.mark.parametrize(("precision", "extensions"), [(None, 0), (1e9, 0), (1e-9, 2)])
def test_the_window_is_extended_until_it_is_precise_but_to_three_times_its_length_at_most(precision, extensions):
    case = make_case(ranks=1, precision=precision, window_s=0.25, warmup=8, verify_steps=0, decompose=False)
    clock, session = FakeClock(), SingleRank()
    record = loop.measure(case, BACKEND, UnevenWorkload(clock), session, loop.RankContext(0.0, clock=clock))
    # The median warm-up step takes 1/128 s: 0.25 s hold 32.
    assert len(record.step_s) == 32 * (1 + extensions)
    assert (record.warmup_steps, record.settled) == (8, None), "the number of warm-up steps was given"
    assert set(record.step_s) == {1 / 16, 1 / 128}
    # The ranks agree on the warm-up step, and before each possible extension on whether it is needed.
    assert session.agreements == 1 + {None: 0, 1e9: 1, 1e-9: 2}[precision]


def test_a_given_number_of_steps_is_not_extended():
    case = make_case(ranks=1, precision=1e-9, steps=20, warmup=0, verify_steps=0, decompose=False)
    clock = FakeClock()
    record = loop.measure(case, BACKEND, UnevenWorkload(clock), SingleRank(), loop.RankContext(0.0, clock=clock))
    assert (len(record.step_s), record.warmup_steps) == (20, 0)
