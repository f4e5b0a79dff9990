"""Throughput of our cell beside an eager loop written by hand, and what feeding costs. About 60 s of device time."""

from __future__ import annotations

import time

import pytest

from bench.rank.clock import steps_per_mark, synchronize
from bench.rank.context import RankContext
from bench.rank.cuda_events import cost_on
from bench.rank.finite import StepResults
from bench.rank.measured_steps import MeasuredSteps
from bench.rank.progress import Progress
from bench.workloads.mnist import data
from bench.workloads.mnist.workload import make_model
from tests.gpu.mnist_work import mnist_work
from tests.support.alternating import alternating_ratio

PAIRS, STEPS = {"cuda": 40, "cpu": 2}, 150
CELLS = [(model, batch) for model in ("linear", "mlp") for batch in (64, 512)]


def pairs_on(session) -> int:
    return PAIRS[session.device.split(":")[0]]


@pytest.fixture(scope="module")
def source():
    return data.prepare(None, "digits")


def loop_by_hand(session, source, model, batch):
    """A step of a loop that somebody might write: all images are on the device, normalized, and taken in order."""
    import torch

    split = data.load(source).train
    images = ((torch.from_numpy(split.images).float() / 255 - data.MEAN) / data.STD).to(session.device)
    labels = torch.from_numpy(split.labels).to(session.device)
    network = make_model(model, 0).to(session.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss()
    position = 0

    def step() -> None:
        nonlocal position
        if position + batch > len(images):
            position = 0
        optimizer.zero_grad()
        criterion(network(images[position : position + batch]), labels[position : position + batch]).backward()
        optimizer.step()
        position += batch

    return step


def seconds(step, session) -> float:
    synchronize(session.device)
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    synchronize(session.device)
    return time.perf_counter() - began


@pytest.mark.parametrize(("model", "batch"), CELLS)
def test_our_cell_beside_a_loop_by_hand(session, source, record_figure, tmp_path, model, batch):
    """Throughput of our cell, measured as in its window, ÷ that of an eager loop with resident data"""
    work, by_hand = mnist_work(session, source, model, batch), loop_by_hand(session, source, model, batch)
    assert type(work.optimizer).__name__ == "SGD"
    for step in (work.step, by_hand):
        step_s = seconds(step, session) / STEPS
    every = min(STEPS, steps_per_mark(cost_on(session.device), step_s))
    context = RankContext(0.0, progress=Progress(tmp_path))
    ours = MeasuredSteps(StepResults(work).keep_after(work.step), every, session, context)

    def our_rate() -> float:
        synchronize(session.device)
        began = time.perf_counter()
        ours.time(STEPS)
        return STEPS * batch / (time.perf_counter() - began)

    found = alternating_ratio(our_rate, lambda: STEPS * batch / seconds(by_hand, session), pairs_on(session))
    record_figure(f"samples/s of the loop by hand, {model}, batch {batch}", batch / step_s, "samples/s")
    note = f"{len(found.ratios)} alternating pairs of {STEPS} steps"
    name = f"our samples/s ÷ the loop's, {model}, batch {batch}"
    record_figure(name, found.median, "1", found.low, found.high, note, at_least=0.98)


class Resident:
    """The same batch again and again: what a step costs where feeding costs nothing."""

    def __init__(self, feed) -> None:
        self.batch = tuple(tensor.clone() for tensor in feed.next())

    def next(self):
        return self.batch


@pytest.mark.parametrize(("model", "batch"), CELLS)
def test_what_feeding_takes_of_a_step(session, source, record_figure, model, batch):
    """The share of a step that feeding takes"""
    work = mnist_work(session, source, model, batch)
    feed, resident = work.feed, Resident(work.feed)

    def with_feed(chosen) -> float:
        work.feed = chosen
        return seconds(work.step, session)

    with_feed(feed)
    found = alternating_ratio(lambda: with_feed(resident), lambda: with_feed(feed), pairs_on(session) // 2)
    # Shares: 1 - the time without feeding ÷ the time with it.
    record_figure(
        f"share of feeding, {model}, batch {batch}",
        1 - found.median,
        "1",
        1 - found.high,
        1 - found.low,
        f"{len(found.ratios)} alternating pairs of {STEPS} steps",
        at_most=0.05,
    )


@pytest.mark.device_only
@pytest.mark.parametrize("batch", [64, 8192])
def test_steps_never_wait_for_the_device(session, source, batch):
    """Whether steps over several epochs wait for the device, or have CUDA allocate memory"""
    import torch

    work = mnist_work(session, source, "mlp", batch)
    steps = 2 * work.feed.steps_an_epoch + 3
    for _ in range(steps):
        work.step()
    torch.cuda.synchronize()
    segments = torch.cuda.memory_stats()["segment.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(steps):
            work.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["segment.all.allocated"] == segments
