"""The steps of a program on a CUDA device: which of them are marked, and their times on a clock of the test's."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest

from bench.core.rank_info import RankInfo
from bench.rank.program.batches import BatchCounter
from bench.rank.program.board import Board, place_on_node
from bench.rank.program.device_time import EVENTS, DeviceMarks
from bench.rank.program.watch import StepWatch
from bench.rank.program.window import Cut, whole_cut
from bench.rank.progress import Progress
from tests.bench.rank.program.test_agreement import program_case, rotated, step_until_all_stop


class Event:
    at_s = 0.0

    def record(self, stream):
        stream.recorded += 1
        self.at_s = stream.now_s

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 1e3 * (other.at_s - self.at_s)


class Cuda:
    """What is used of ``torch.cuda``, and its only stream; the device's time goes on by what is added."""

    def __init__(self):
        self.now_s, self.recorded, self.capturing = 0.0, 0, False

    def is_current_stream_capturing(self):
        return self.capturing

    def current_stream(self, device):
        return self

    def Event(self, enable_timing):  # noqa: N802
        return Event()


def taken(cuda, marks, first, last):
    """Take steps: step n takes n milliseconds."""
    for number in range(first, last + 1):
        cuda.now_s += number / 1e3
        marks.step_ended(number)


def mean_s(first, last):
    """Of the steps from ``first`` to ``last``."""
    return (first + last) / 2 / 1e3


@pytest.fixture
def cuda():
    return Cuda()


@pytest.fixture
def marks(cuda):
    made = DeviceMarks(0, cuda, mark_cost_s=1e-3)
    cuda.recorded = 0
    return made


def test_without_a_decision_every_step_is_marked(cuda, marks):
    taken(cuda, marks, 1, 3 * EVENTS)
    found = marks.blocks(10, 2 * EVENTS)
    assert found.step_s == pytest.approx([number / 1e3 for number in range(11, 2 * EVENTS + 1)])
    assert marks.blocks(0, 5) is None, "nobody saw how the first one began"
    assert marks.blocks(10, 3 * EVENTS + 1) is None


def test_after_the_decision_the_ends_of_blocks_are_marked(cuda, marks):
    taken(cuda, marks, 1, 22)
    # Rank 0 has decided at step 20, and this rank was two steps ahead.
    marks.mark_every(8, 20, 0)
    taken(cuda, marks, 23, 44)
    marks.mark_every(8, 20, 44)
    taken(cuda, marks, 45, 60)
    assert cuda.recorded == 22 + len([28, 36, 44, 52, 60])
    found = marks.blocks(20, 44)
    assert found.step_s == pytest.approx([mean_s(21, 28), mean_s(29, 36), mean_s(37, 44)])
    assert found.ends == [28, 36, 44]
    assert marks.blocks(21, 44) is None, "no such block was marked"


def test_the_last_block_of_a_given_number_of_steps_is_shorter(cuda, marks):
    taken(cuda, marks, 1, 10)
    marks.mark_every(8, 10, 30)
    taken(cuda, marks, 11, 40)
    found = marks.blocks(10, 30)
    assert found.step_s == pytest.approx([mean_s(11, 18), mean_s(19, 26), mean_s(27, 30)])
    assert found.ends == [18, 26, 30]


def test_steps_in_a_graph_that_is_captured_have_no_times(cuda, marks):
    taken(cuda, marks, 1, 10)
    cuda.capturing = True
    taken(cuda, marks, 11, 11)
    assert marks.blocks(2, 10) is None


def test_a_whole_program_is_cut_where_it_was_marked():
    case = program_case(ranks=1)
    assert whole_cut(case, 100) == Cut(10, 100)
    assert whole_cut(case, 100, every=16) == Cut(16, 96)
    assert whole_cut(case, 30, every=16) == Cut(10, 30), "not one whole block was marked"


@pytest.mark.parametrize(
    "changes", [{}, {"steps": 250}, {"warmup": 3}, {"precision": 1e-9}], ids=["alone", "steps", "warmup", "precision"]
)
@pytest.mark.parametrize("order", [lambda watches, step: watches, lambda watches, step: watches[::-1], rotated])
def test_ranks_mark_the_same_blocks(tmp_path, changes, order):
    case = program_case(ranks=3, **changes)
    parameter = SimpleNamespace(is_cuda=True, get_device=lambda: 0)
    optimizer = SimpleNamespace(param_groups=[{"params": [parameter]}])
    watches, cudas = [], []
    for rank in range(3):
        cudas.append(Cuda())
        me = RankInfo(rank, 3, rank, 3, "127.0.0.1", 0)
        # A mark costs so much that some steps are always marked together, however fast this machine takes them.
        make = functools.partial(DeviceMarks, cuda=cudas[-1], mark_cost_s=3e-5 * (1 + rank))
        board = Board(tmp_path, *place_on_node(case, rank))
        watch = StepWatch(case, me, board, BatchCounter("samples"), Progress(), make_device_marks=make)
        watch.on_stop = lambda: None
        end_step = watch.step_ended
        watch.step_ended = functools.partial(on_device, cudas[-1], end_step, optimizer)
        watches.append(watch)
    step_until_all_stop(watches, order)
    first, last = watches[0].cut
    every = {watch.every for watch in watches}
    assert len(every) == 1
    assert every != {1}, "nothing was marked together"
    (steps,) = every
    for watch, cuda in zip(watches, cudas, strict=True):
        assert watch.cut == (first, last)
        found = watch.device_marks.blocks(first, last)
        assert len(found.step_s) == -(-(last - first) // steps)
        assert found.step_s == pytest.approx([1.0] * len(found.step_s)), "steps of one second on the device"
        assert cuda.recorded - EVENTS < last, "not after each step"
    if "steps" not in changes:
        assert (last - first) % steps == 0


def on_device(cuda, end_step, optimizer):
    cuda.now_s += 1.0
    end_step(optimizer)
