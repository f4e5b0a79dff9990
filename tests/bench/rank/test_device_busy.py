"""How long the device needs for a step, measured in a simulated device's queue."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank.device_busy import CANNOT_BE_QUEUED, MAX_STEP_S, measure_device_busy
from tests.support.clocks import FakeClock


class SimulatedDevice:
    """A device that executes launches in their order, and a host that waits where its queue is full.

    A mark is the time at which the device comes to it.
    """

    def __init__(self, depth=1024):
        self.host, self.depth, self.ends, self.free_at = FakeClock(), depth, [], 0.0

    def launch(self, host_s, device_s):
        self.host.sleep(host_s)
        waiting = [end for end in self.ends if end > self.host.now]
        if len(waiting) >= self.depth:
            self.host.now = waiting[-self.depth]
        self.free_at = max(self.free_at, self.host.now) + device_s
        self.ends = [*waiting, self.free_at]

    def hold(self, seconds):
        self.launch(5e-6, seconds)

    def mark(self):
        return max(self.free_at, self.host.now)

    def has_passed(self, mark):
        return self.host.now >= mark

    def seconds_between(self, before, after):
        self.host.now = max(self.host.now, after)
        return after - before

    def synchronize(self):
        self.host.now = max(self.host.now, self.free_at)


class LaunchingWork(Work):
    """A step of launches; ``extra``: what the host does besides, a function of the step's number."""

    amount_per_step = 8

    def __init__(self, device, launches=10, host_s=60e-6, device_s=10e-6, extra=lambda number: None):
        self.device, self.launches, self.host_s, self.device_s, self.extra = device, launches, host_s, device_s, extra
        self.steps, self.saved_at, self.restored = 0, None, False

    def step(self):
        for _ in range(self.launches):
            self.device.launch(self.host_s, self.device_s)
        self.extra(self.steps)
        self.steps += 1

    def save(self):
        return self.steps

    def restore(self, kept):
        self.restored = kept

    def verify(self, steps):
        return (), ()

    def snapshot(self):
        return []


class OneRank(Session):
    """A session of one rank without torch."""

    def largest(self, value):
        return value


def measure(work, session=None):
    step_s = work.launches * max(work.host_s, work.device_s)
    return measure_device_busy(work, session or OneRank(), work.device, step_s, work.device.host)


@pytest.mark.parametrize(
    ("host_s", "device_s"), [(60e-6, 10e-6), (60e-6, 60e-6), (10e-6, 60e-6), (8e-6, 1e-6), (10e-6, 5e-3)]
)
def test_a_queued_step_takes_what_the_device_needs_and_an_ordinary_one_the_slower_of_both(host_s, device_s):
    (steps,) = measure(LaunchingWork(SimulatedDevice(), host_s=host_s, device_s=device_s)).queued
    assert steps.exchanged
    assert steps.queued_s == pytest.approx([10 * device_s] * len(steps.queued_s))
    assert steps.stepped_s == pytest.approx([10 * max(host_s, device_s)] * len(steps.stepped_s), rel=0.1)


def test_a_step_that_waits_for_the_device_has_a_reason_and_no_number():
    device = SimulatedDevice()
    result = measure(LaunchingWork(device, extra=lambda number: device.synchronize()))
    assert result == ((), CANNOT_BE_QUEUED)


@pytest.mark.parametrize(("depth", "steps"), [(1024, 16), (100, 8), (25, 2), (13, 1)])
def test_no_more_steps_are_queued_than_the_queue_holds(depth, steps):
    (found,) = measure(LaunchingWork(SimulatedDevice(depth))).queued
    assert found.steps == steps
    assert found.queued_s == pytest.approx([1e-4] * len(found.queued_s))


def test_a_step_of_more_launches_than_the_queue_holds_has_a_reason():
    assert measure(LaunchingWork(SimulatedDevice(depth=8))) == ((), CANNOT_BE_QUEUED)


def test_a_pause_of_the_host_costs_a_block_and_not_the_measurement():
    device = SimulatedDevice()
    work = LaunchingWork(device, extra=lambda number: device.host.sleep(0.5 if number == 45 else 0.0))
    (found,) = measure(work).queued
    assert (found.steps, len(found.queued_s)) == (16, 5)
    assert found.queued_s == pytest.approx([1e-4] * 5)


class HostExchange(OneRank):
    """An exchange that waits on the host: it synchronizes after each step, unless it is left out."""

    host_wait_reason = "gloo exchanges in the host's memory"

    def __init__(self, device):
        super().__init__()
        self.queue, self.exchanging = device, True

    def exchange(self, number):
        if self.exchanging:
            self.queue.synchronize()

    @contextmanager
    def no_sync(self):
        self.exchanging = False
        yield
        self.exchanging = True


def test_where_the_exchange_waits_on_the_host_steps_without_it_are_measured_and_undone():
    device = SimulatedDevice()
    session = HostExchange(device)
    work = LaunchingWork(device, extra=session.exchange)
    (found,) = measure(work, session).queued
    assert not found.exchanged
    assert found.queued_s == pytest.approx([1e-4] * len(found.queued_s))
    assert work.restored == 0, "the state of before the first of these steps"
    assert session.exchanging
    session.no_sync_reason = "parameters are gathered in every pass"
    assert measure(work, session) == ((), session.host_wait_reason)


def test_long_steps_are_left_out():
    result = measure(LaunchingWork(SimulatedDevice(), device_s=MAX_STEP_S / 5))
    assert result.queued == ()
    assert "longer than 1 s" in result.reason


def test_ranks_that_share_a_device_are_not_measured():
    device = SimulatedDevice()
    work = LaunchingWork(device)
    result = measure_device_busy(work, OneRank(), device, 1e-3, device.host, ranks_on_device=2)
    assert (result.queued, work.steps) == ((), 0)
    assert "share a GPU" in result.reason


class OneOfSeveral(Session):
    """A rank that is a thread, without torch."""

    def __init__(self, rank, world, met, values):
        super().__init__(rank, world)
        self.met, self.values = met, values

    def largest(self, value):
        self.values[self.rank] = value
        self.met.wait()
        most = max(self.values)
        self.met.wait()
        return most

    def barrier(self):
        self.met.wait()


def test_ranks_queue_the_same_number_of_steps_though_the_queue_of_one_is_shorter():
    met, values = threading.Barrier(2, timeout=30), [0.0, 0.0]

    def run(rank):
        work = LaunchingWork(SimulatedDevice(depth=(1024, 45)[rank]))
        return measure(work, OneOfSeveral(rank, 2, met, values))

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, range(2)))
    assert [[(steps.exchanged, steps.steps) for steps in result.queued] for result in results] == [
        [(True, 4), (False, 4)]
    ] * 2
