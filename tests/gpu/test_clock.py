"""What marks of the ends of steps cost on a GPU: after every step, and as rarely as the clock sets them. About 70 s."""

from __future__ import annotations

import time

import pytest

from bench.rank.clock import steps_per_mark, synchronize, time_blocks, time_steps
from bench.rank.context import RankContext
from bench.rank.cuda_events import CudaEvents, cost_on
from bench.rank.finite import StepResults
from bench.rank.measured_steps import MeasuredSteps
from bench.rank.progress import Progress
from bench.workloads.mnist import data
from tests.gpu.mnist_work import mnist_work
from tests.support.alternating import alternating_ratio

PAIRS, BLOCK_S = {"cuda": 40, "cpu": 2}, 0.05
SHORT_STEP_S = 1e-4
MOST = 0.005


@pytest.fixture
def context(tmp_path):
    return RankContext(0.0, progress=Progress(tmp_path))


def pairs_on(session) -> int:
    return PAIRS[session.device.split(":")[0]]


def plain_seconds(step, count, session) -> float:
    synchronize(session.device)
    began = time.perf_counter()
    for _ in range(count):
        step()
    synchronize(session.device)
    return time.perf_counter() - began


def overheads(step, step_s, session, context, measured=None):
    """What ``every`` is, and the cost of marks after each step and after so many steps, as shares of a step.

    ``measured``: the step with all that a window does beside it.
    """
    every = steps_per_mark(cost_on(session.device), step_s)
    count = -(-max(int(BLOCK_S / step_s), 3 * every) // every) * every
    found = []
    for marked in (1, every):
        steps = MeasuredSteps(measured or step, marked, session, context)

        def seconds(steps=steps) -> float:
            synchronize(session.device)
            began = time.perf_counter()
            steps.time(count)
            return time.perf_counter() - began

        found.append(alternating_ratio(seconds, lambda: plain_seconds(step, count, session), pairs_on(session)))
    return every, found


def record(record_figure, name, step_s, every, found):
    before, after = found
    note = f"step of {1e3 * step_s:.3f} ms, {len(before.ratios)} alternating pairs"
    for text, ratio, goal in (("after every step", before, None), ("in blocks", after, MOST)):
        low, high = ratio.low - 1, ratio.high - 1
        note = note if goal is None else f"{note}, blocks of {every}"
        record_figure(f"cost of marks {text}, {name}", ratio.median - 1, "1", low, high, note, at_most=goal)


def test_cost_of_a_mark(session, record_figure):
    """What recording an event among short kernels costs"""
    record_figure("cost of a mark", 1e6 * cost_on(session.device), "µs")


@pytest.mark.parametrize("kind", ["launches", pytest.param("kernel", marks=pytest.mark.device_only)])
def test_steps_of_a_tenth_of_a_millisecond(session, context, record_figure, kind):
    """What marks cost in steps of 0.1 ms: of launches of short kernels, and of one kernel"""
    import torch

    value = torch.zeros(64, device=session.device)
    if kind == "launches":
        add_s = min(time_steps(lambda: [value.add_(1.0) for _ in range(100)], 10, session.device)) / 100
        launches = max(1, round(SHORT_STEP_S / add_s))

        def step() -> None:
            for _ in range(launches):
                value.add_(1.0)
    else:
        cycles = 1_000_000
        spin_s = min(time_steps(lambda: torch.cuda._sleep(cycles), 5, session.device))
        cycles = int(cycles * SHORT_STEP_S / spin_s)

        def step() -> None:
            torch.cuda._sleep(cycles)

    step_s = min(plain_seconds(step, 200, session) for _ in range(2)) / 200
    every, found = overheads(step, step_s, session, context)
    record(record_figure, f"step of 0.1 ms ({kind})", step_s, every, found)


@pytest.mark.parametrize("batch", [64, 512])
@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_eager_steps(session, context, record_figure, model, batch):
    """What a measured step costs beyond the step alone: marks, counting, keeping losses"""
    work = mnist_work(session, data.prepare(None, "digits"), model, batch)
    count = 5 if session.device == "cpu" else 200
    step_s = min(plain_seconds(work.step, count, session) for _ in range(2)) / count
    every, found = overheads(work.step, step_s, session, context, StepResults(work).keep_after(work.step))
    record(record_figure, f"mnist {model}, batch {batch}", step_s, every, found)


def test_blocks_add_up_to_the_time_on_the_host_s_clock(session, record_figure):
    """Whether the times of blocks add up to what a clock on the host shows"""
    import torch

    a = torch.rand(512, 512, device=session.device)
    out = torch.empty_like(a)

    def step() -> None:
        torch.mm(a, a, out=out)

    time_steps(step, 50, session.device)
    count, every = 2000, 128
    if session.device != "cpu":
        CudaEvents.of(session.device).prepare(count)
    synchronize(session.device)
    began = time.perf_counter()
    timing = time_blocks(step, count, session.device, every=every)
    elapsed_s = time.perf_counter() - began
    *whole, last = timing.step_s
    measured_s = every * sum(whole) + (count % every or every) * last
    record_figure("time of all blocks ÷ time on the host's clock", measured_s / elapsed_s, "1", at_least=0.98)
    assert measured_s <= elapsed_s * 1.001
