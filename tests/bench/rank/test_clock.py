"""Timing steps in blocks, on a device whose queue and clock are the test's."""

from __future__ import annotations

import itertools
import math

import pytest

from bench.backends.single import BACKEND
from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank import loop
from bench.rank.clock import block_sizes, half_width, steps_per_mark, time_blocks
from bench.rank.context import RankContext
from bench.rank.cuda_events import LAUNCHES, mark_cost_s
from bench.rank.loop import WarmupResult, measure_window, warm_up, whole_blocks
from bench.rank.measured_steps import after_the_window
from bench.rank.overhead import MAX_MULTIPLE, MIN_MARKS, measuring_multiple, steps_in_block
from bench.rank.progress import Progress
from tests.bench.rank.test_loop import UnevenWorkload
from tests.support.builders import make_case, make_record
from tests.support.clocks import FakeClock


class Queue:
    """A device that computes what it is given in order, while the host goes on; marks take its time and the host's."""

    def __init__(self, host: FakeClock, mark_s: float = 0.0, host_mark_s: float = 0.0) -> None:
        self.host, self.mark_s, self.host_mark_s = host, mark_s, host_mark_s
        self.free_s = 0.0
        self.marks: dict[int, float] = {}
        self.prepared = 0

    def launch(self, device_s: float, host_s: float) -> None:
        self.host.sleep(host_s)
        self.free_s = max(self.free_s, self.host.now) + device_s

    def synchronize(self) -> None:
        self.host.now = max(self.host.now, self.free_s)

    def prepare(self, count: int) -> None:
        self.prepared = max(self.prepared, count)
        self.synchronize()

    def record(self, number: int) -> None:
        assert number < self.prepared, "it was not made before"
        self.launch(self.mark_s, self.host_mark_s)
        self.marks[number] = self.free_s

    def durations_s(self, last: int) -> list[float]:
        self.synchronize()
        return [self.marks[after] - self.marks[before] for before, after in itertools.pairwise(range(last + 1))]


def test_blocks_of_steps_add_up_to_all_of_them():
    host = FakeClock()
    queue = Queue(host)
    device_s = itertools.cycle([0.25, 0.5, 0.125])
    timing = time_blocks(lambda: queue.launch(next(device_s), 0.0625), 7, "cuda:0", host, every=3, events=queue)
    # The device waits for the host before the first step; then the host is ahead.
    assert timing.step_s == [(0.0625 + 0.875) / 3, 0.875 / 3, 0.25]
    assert timing.host_step_s == [0.0625, 0.0625, 0.0625], "it had enqueued them long before they were computed"
    assert queue.prepared == 4, "one mark for each block, and one before"


def test_blocks_are_as_long_as_their_marks_are_expensive():
    # What was seen on an H200: 61 µs a mark, 648 µs a step.
    assert steps_per_mark(61e-6, 648e-6) == 38
    assert steps_per_mark(0.0, 1e-4) == 1
    assert steps_per_mark(61e-6, 1.0) == 1
    for cost_s, step_s in itertools.product((1e-6, 1e-5, 1e-4), (1e-4, 1e-3, 1e-2)):
        assert cost_s / steps_per_mark(cost_s, step_s) <= 0.0025 * step_s * (1 + 1e-9)
    assert steps_per_mark(1.0, 0.0) == 1_000_000, "what a record can hold"


def test_the_last_block_is_shorter():
    assert block_sizes(10, 4) == [4, 4, 2]
    assert block_sizes(8, 4) == [4, 4]
    assert block_sizes(3, 1) == [1, 1, 1]


def test_the_interval_of_blocks_takes_their_steps_into_account():
    times = [1.0, 2.0] * 5
    assert half_width(times) == math.inf, "one step in each of ten batches"
    assert half_width(times, every=2) < 1


def test_a_mark_costs_what_it_adds_to_short_kernels():
    host = FakeClock()
    queue = Queue(host, mark_s=2e-6, host_mark_s=61e-6)
    # The host can't feed this device: what a mark takes there counts.
    assert mark_cost_s(queue, lambda: queue.launch(1e-6, 5e-6), queue.synchronize, host) == pytest.approx(
        61e-6, rel=1e-3
    )
    assert queue.prepared == LAUNCHES


def test_a_mark_costs_no_less_than_it_takes_the_host():
    host = FakeClock()
    queue = Queue(host, mark_s=0.0, host_mark_s=3e-6)
    # Behind long kernels the marks do not show.
    assert mark_cost_s(queue, lambda: queue.launch(1e-3, 1e-6), queue.synchronize, host) == pytest.approx(3e-6)


class Device(Session):
    """A session of one rank on a CUDA device of the test's."""

    def __init__(self):
        super().__init__(device="cuda:0")

    def largest(self, value):
        return value


class Steps(Work):
    """Steps which a device could take much faster than the host can enqueue them."""

    amount_per_step = 1

    def __init__(self, queue):
        self.queue, self.taken = queue, 0

    def step(self):
        self.queue.launch(1e-4, 1e-3 * (1 + self.taken // 100 % 2))
        self.taken += 1

    def snapshot(self):
        return []


def test_a_warm_up_marks_blocks():
    host = FakeClock()
    queue = Queue(host, host_mark_s=1e-4)
    warmup = warm_up(lambda: queue.launch(1e-4, 1e-3), Device(), 1, clock=host, mark_cost_s=1e-4, events=queue)
    assert warmup.settled
    assert warmup.step_s == pytest.approx(1e-3, rel=0.02), "with a mark at each step it would be a tenth more"


@pytest.mark.parametrize(
    ("options", "steps", "blocks"),
    [
        ({"window_s": 0.41}, 440, 11),
        ({"window_s": 0.82, "chosen_window_s": 0.41}, 440, 11),
        ({"steps": 100}, 100, 3),
        ({"steps": 7}, 7, 1),
        ({"window_s": 0.41, "precision": 1e-9}, 1320, 33),
    ],
)
def test_a_window_on_a_device_is_marked_in_blocks_of_all_of_its_steps(options, steps, blocks):
    host = FakeClock()
    queue = Queue(host, host_mark_s=1e-4)
    case, context = make_case(ranks=1, **options), RankContext(0.0, clock=host, events=queue, progress=Progress())
    work, before = Steps(queue), host.now
    warmup = WarmupResult(10, True, 1e-3)
    measured = measure_window(case, work, Device(), work.step, warmup, steps_per_mark(1e-4, 1e-3), context)
    assert (measured.steps, len(measured.timing.step_s)) == (steps, blocks)
    assert len(measured.timing.host_step_s) == blocks
    record = make_record(
        step_s=measured.timing.step_s,
        steps_per_entry=measured.every,
        last_entry_steps=measured.steps % measured.every or None,
    )
    assert record.steps == steps
    # All of the host's time but the mark before the first step.
    assert record.measured_s == pytest.approx(host.now - before, abs=3e-4)
    assert context.progress.current.step == steps - (measured.steps % measured.every or measured.every) + 1


def test_a_window_holds_whole_blocks():
    assert whole_blocks(100, 38, 20_000) == 114
    assert whole_blocks(100, 1, 20_000) == 100
    assert whole_blocks(190, 38, 200) == 190
    assert whole_blocks(199, 38, 200) == 190, "rounded down where the work takes no more steps"


def test_the_overhead_is_measured_with_marks_as_rare_as_in_a_window():
    assert steps_in_block(1e-2, 1) == 4
    assert steps_in_block(1e-4, 244) == MIN_MARKS * 244
    assert steps_in_block(1e-4, 7) == 406


def test_ticks_stay_a_step_apart_where_the_node_is_sampled_more_often():
    assert measuring_multiple(1e-3, "cpu") == MAX_MULTIPLE
    assert measuring_multiple(0.05, "cpu") == 4
    assert measuring_multiple(3.0, "cpu") == 1
    assert measuring_multiple(1e-3, "cuda:0") == 1


def test_steps_are_measured_several_times_and_taken_once():
    clock, progress = FakeClock(), Progress()
    progress.enter("measured step")
    work = UnevenWorkload(clock).build(make_case(ranks=1), Session())
    measured = after_the_window(work, 1, Session(), RankContext(0.0, progress=progress, clock=clock), multiple=5)
    began_s = clock.now
    step_s = measured.time(3).step_s
    assert sum(step_s) == pytest.approx(clock.now - began_s)
    assert len(step_s) == 3
    assert progress.current.step == 15


def test_progress_counts_blocks():
    progress = Progress()
    progress.enter("measured step")
    steps = []
    for size in (4, 4, 2):
        progress.begin_steps(size)
        steps.append(progress.current.step)
    assert steps == [1, 5, 9]
    assert progress.current.last_step_s > 0
    progress.enter("further measurements")
    assert progress.current.step == 0


@pytest.mark.parametrize("steps", [20, 25])
def test_a_record_on_a_cpu_has_an_entry_for_each_step(steps):
    case = make_case(ranks=1, steps=steps, warmup=0, verify_steps=0, decompose=False)
    clock = FakeClock()
    record = loop.measure(case, BACKEND, UnevenWorkload(clock), Session(), RankContext(0.0, clock=clock))
    assert (record.steps, record.steps_per_entry, record.last_entry_steps) == (steps, 1, None)
    assert record.measured_s == pytest.approx(clock.now)
    assert record.host_step_s is None
