"""What a rank measures after its window, and what is left where that fails."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from bench.core.records import RankRecord, Window
from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank import after_window
from bench.rank.context import RankContext
from tests.support.builders import make_case, make_record
from tests.support.clocks import FakeClock

EVERYTHING = make_case(ranks=1, decompose=True, own_cost=True, roofline=True)


# These run with the frameworks: the fast part has none.
needs_torch = pytest.mark.frameworks


class SingleRank(Session):
    """A session of one rank without torch."""

    def largest(self, value):
        return value


class TimedWork(Work):
    """A step of two parts that last by a clock. ``fails`` names the method that raises."""

    amount_per_step = 8

    def __init__(self, clock, fails=""):
        self.clock, self.fails, self.steps = clock, fails, 0

    def parts(self):
        return (("data", lambda: None), ("forward", self.forward))

    def forward(self):
        self.steps += 1
        self.clock.sleep(0.1)
        if self.fails == "forward":
            raise RuntimeError("Cannot access storage of SparseTensorImpl")

    def verify(self, steps):
        return (), ()

    def save(self):
        if self.fails == "save":
            raise ZeroDivisionError("in save")

    def snapshot(self):
        return []


def complete(fails="", case=EVERYTHING, pause=None) -> tuple[RankRecord, list[RankRecord]]:
    clock, kept = FakeClock(), []
    pausing = {} if pause is None else {"pause_sampling": pause}
    context = RankContext(0.0, clock=clock, keep=kept.append, **pausing)
    record = make_record(step_s=(0.1,) * 5, window=Window(began_s=1, ended_s=1.5, cpu_s=0.5))
    return after_window.complete(record, case, TimedWork(clock, fails), SingleRank(), context), kept


@pytest.mark.parametrize(
    ("fails", "why"),
    [
        ("save", "ZeroDivisionError: in save"),
        ("forward", "RuntimeError: Cannot access storage of SparseTensorImpl"),
    ],
)
def test_a_measurement_that_fails_leaves_the_window_and_a_reason(fails, why):
    record, _ = complete(fails)
    assert record.step_s == (0.1,) * 5
    assert record.window == Window(began_s=1, ended_s=1.5, cpu_s=0.5)
    assert (record.phases, record.own_cost, record.step_work) == (None, None, None)
    assert record.missing == {
        "decomposition": why,
        "overhead": "not measured after decomposition had failed",
        "roofline": "not measured after decomposition had failed",
    }
    assert record.complete, "the rank knows why"
    assert record.failed_at is not None
    assert record.memory_peak_bytes


def test_a_failure_on_another_rank_has_no_time_of_this_one():
    def raise_failure(**told):
        raise after_window.LocalFailure("no space", **told)

    here, there = after_window.Attempts(), after_window.Attempts()
    here.take("checkpoint", raise_failure)
    there.take("checkpoint", lambda: raise_failure(elsewhere=True))
    assert here.missing == there.missing == {"checkpoint": "no space"}
    assert here.failed_at is not None
    assert there.failed_at is None


def test_a_record_is_kept_for_a_rank_that_does_not_come_back():
    _, (kept,) = complete()
    assert (kept.step_s, kept.complete) == ((0.1,) * 5, False)
    assert kept.missing == dict.fromkeys(
        ("decomposition", "overhead", "roofline"), "the rank ended before it was measured"
    )
    assert complete(case=make_case(ranks=1, decompose=False))[1] == [], "nothing was requested"


@contextmanager
def stuck():
    raise TimeoutError("no answer within 2 s")
    yield


@needs_torch
def test_a_sampler_that_does_not_pause_costs_the_overhead_alone():
    record, _ = complete(pause=stuck, case=EVERYTHING.model_copy(update={"roofline": False}))
    assert record.missing == {"overhead": "the sampler could not be paused: no answer within 2 s"}
    assert record.phases is not None


@needs_torch
def test_overhead_and_decomposition_are_measured_where_nothing_fails():
    record, _ = complete(case=EVERYTHING.model_copy(update={"roofline": False}))
    assert record.missing == {}
    assert record.failed_at is None
    assert record.phases.alone_s["forward"] == pytest.approx((0.1,) * len(record.phases.alone_s["forward"]))
    assert record.own_cost.steps >= 2


@needs_torch
def test_work_that_cannot_be_counted_leaves_the_peak_of_the_device():
    case = EVERYTHING.model_copy(update={"decompose": False, "own_cost": False})
    record, _ = complete("forward", case)
    assert record.missing == {"roofline": "RuntimeError: Cannot access storage of SparseTensorImpl"}
    assert record.step_work is None
    assert record.peak.flop_s > 0
