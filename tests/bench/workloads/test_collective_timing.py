"""The steps of a window are operations over the largest message: where it takes long, they are not repeated."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.frameworks
pytest.importorskip("torch")

from bench.plugins.backend import Session  # noqa: E402
from bench.workloads.allreduce import AllreduceOptions, AllreduceWork  # noqa: E402
from bench.workloads.collectives.timing import MIN_REPETITIONS, SECONDS_PER_SIZE  # noqa: E402

LONG_S = 1.1 * SECONDS_PER_SIZE / MIN_REPETITIONS


class Counted(Session):
    """A rank alone, whose exchange of a message takes a while where that is large."""

    def __init__(self, device="cpu", long_from=2):
        super().__init__(device=device)
        self.long_from, self.exchanged = long_from, []

    def all_reduce_sum(self, tensor):
        self.exchanged.append(tensor.numel())
        if tensor.numel() >= self.long_from:
            time.sleep(LONG_S)
        return tensor


def finished(session, steps):
    """The messages of a work of two sizes after some steps, and how often each of its sizes was exchanged for them."""
    work = AllreduceWork(AllreduceOptions(smallest=4, largest=16), 0, session)
    for _ in range(steps):
        work.step()
    session.exchanged.clear()
    _, messages = work.finish()
    return messages, {size: session.exchanged.count(size) for size in (1, 4)}


def test_the_last_steps_are_the_times_of_a_message_that_takes_long():
    (small, large), exchanged = finished(Counted(), MIN_REPETITIONS + 2)
    assert (small.message_bytes, large.message_bytes) == (4, 16)
    assert len(large.times_s) == MIN_REPETITIONS
    assert min(large.times_s) >= LONG_S
    assert exchanged[4] == 0
    assert exchanged[1] > len(small.times_s), "a smaller message is timed by itself"


@pytest.mark.parametrize(
    ("session", "steps"),
    [
        pytest.param(Counted(), MIN_REPETITIONS - 1, id="too few steps"),
        pytest.param(Counted(long_from=100), MIN_REPETITIONS + 2, id="more repetitions fit into the time"),
    ],
)
def test_a_message_is_timed_by_itself_where_the_steps_are_not_as_many(session, steps):
    (_, large), exchanged = finished(session, steps)
    assert exchanged[4] > len(large.times_s) >= MIN_REPETITIONS


def test_steps_on_a_device_are_not_timed_on_the_host():
    session = Counted()
    work = AllreduceWork(AllreduceOptions(smallest=4, largest=16), 0, session)
    session.device = "cuda:0"
    for _ in range(MIN_REPETITIONS):
        work.step()
    assert work.last_steps.times_s() is None
