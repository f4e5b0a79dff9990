"""The decomposition of the steps of a rank, on a clock that the steps themselves advance."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from bench.core.step_measures import PhaseTimes
from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank.decompose import decompose, time_parts
from reports.analysis.step_times import split_step
from tests.support.builders import make_record
from tests.support.clocks import FakeClock

PART_S, PAUSE_S, EXCHANGE_S = 1 / 256, 1 / 64, 1 / 128


class PausingWork(Work):
    """Parts, and a step that takes longer than all of them; the optimizer waits for an exchange."""

    amount_per_step = 1

    def __init__(self, clock, session):
        self.clock, self.session = clock, session

    def step(self):
        super().step()
        self.clock.sleep(PAUSE_S)

    def parts(self):
        return (("data", self._wait), ("forward", self._wait), ("backward", self._wait), ("optimizer", self._update))

    def _wait(self):
        self.clock.sleep(PART_S)

    def _update(self):
        self.clock.sleep(PART_S + EXCHANGE_S * self.session.exchanging)

    def verify(self, steps):
        return (), ()

    def snapshot(self):
        return []


class OneOf(Session):
    """One of several ranks; the others are always ready."""

    exchanging = True

    def barrier(self):
        pass

    def largest(self, value):
        return value

    @contextmanager
    def no_sync(self):
        self.exchanging = False
        yield
        self.exchanging = True


def split_of(world):
    clock, session = FakeClock(), OneOf(0, world)
    found = decompose(PausingWork(clock, session), session, 4 * PART_S + PAUSE_S, clock)
    phases = PhaseTimes(**found._asdict(), digest="d")
    return split_step([make_record(rank, world, phases=phases) for rank in range(world)])


def test_what_a_step_does_beyond_its_parts_is_unattributed():
    found = split_of(world=2)
    assert (found.unattributed_s, found.exposed_s) == (PAUSE_S, EXCHANGE_S)


def test_one_rank_has_no_communication_whatever_its_backend_does():
    found = split_of(world=1)
    assert (found.unattributed_s, found.exposed_s) == (PAUSE_S + EXCHANGE_S, 0)


def test_a_step_is_its_parts():
    class Made(PausingWork):
        step = Work.step

    clock = FakeClock()
    Made(clock, OneOf()).step()
    assert clock() == 4 * PART_S + EXCHANGE_S


def test_parts_of_one_name_add_up():
    clock = FakeClock()
    parts = tuple((name, lambda: clock.sleep(PART_S)) for name in ("forward", "backward", "forward", "backward"))
    assert time_parts(parts, "cpu", clock) == {"forward": 2 * PART_S, "backward": 2 * PART_S}


def test_work_with_neither_a_step_nor_parts_is_refused():
    class Nothing(PausingWork):
        step = Work.step

        def parts(self):
            return ()

    with pytest.raises(NotImplementedError, match="Nothing has neither a step nor parts"):
        Nothing(FakeClock(), OneOf()).step()
