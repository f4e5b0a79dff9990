"""How ranks agree on the window and the stop, with the steps of all of them in one process."""

from __future__ import annotations

import time

import pytest

from bench.core.rank_info import RankInfo
from bench.node.program_copy import remove_program_copy
from bench.rank.program.batches import BatchCounter
from bench.rank.program.board import Board, Decision, place_on_node
from bench.rank.program.failures import ProgramProblem
from bench.rank.program.options import needs_given_steps
from bench.rank.program.watch import StepWatch
from bench.rank.progress import Progress
from tests.support.builders import make_case


def program_case(**changes):
    return make_case(workload="script", backend="torchrun", transport="any", window_s=0.01, **changes)


def watches_of(case, folder):
    watches = []
    for rank in range(case.ranks):
        me = RankInfo(rank, case.ranks, rank, case.ranks, "127.0.0.1", 0)
        watch = StepWatch(case, me, Board(folder, *place_on_node(case, rank)), BatchCounter("samples"), Progress())
        watch.on_stop = lambda: None
        watches.append(watch)
    return watches


def step_until_all_stop(watches, order):
    """Take steps in turns: each rank one, in an order that changes from step to step."""
    for step in range(20_000):
        for watch in order(watches, step):
            if not watch.stopped_at:
                watch.step_ended()
        if all(watch.stopped_at for watch in watches):
            return
    raise AssertionError("some ranks were never stopped")


def rotated(watches, step):
    return [*watches[step % len(watches) :], *watches[: step % len(watches)]]


@pytest.mark.parametrize("order", [lambda watches, step: watches, lambda watches, step: watches[::-1], rotated])
def test_ranks_of_a_node_have_the_same_window_and_stop(tmp_path, order):
    watches = watches_of(program_case(ranks=3), tmp_path)
    step_until_all_stop(watches, order)
    assert len({watch.cut for watch in watches}) == 1
    assert len({watch.stopped_at for watch in watches}) == 1
    assert watches[0].cut.last <= watches[0].stopped_at <= watches[0].cut.last + 3
    assert {watch.decision for watch in watches} == {watches[0].decision}


@pytest.mark.parametrize("changes", [{}, {"steps": 6}])
def test_observers_get_their_steps_after_the_window_on_all_ranks(tmp_path, changes):
    class Observer:
        def __init__(self):
            self.seen = []

        def steps(self, step_s):
            return 5

        def begin(self, steps):
            self.seen.append(f"begin {steps}")

        def step_ended(self):
            self.seen.append("step")

        def finish(self):
            return {}

    watches = watches_of(program_case(ranks=2, **changes), tmp_path)
    for watch in watches:
        watch.observers = (Observer(),)
        watch.start_over(whole=False)
    step_until_all_stop(watches, rotated)
    assert [watch.observers[0].seen for watch in watches] == [["begin 5", *["step"] * 5]] * 2
    assert len({watch.stopped_at for watch in watches}) == 1


def test_ranks_of_namespaces_share_the_memory_of_their_machine():
    case = program_case(ranks=4, ranks_per_node=2)
    assert [place_on_node(case, rank) for rank in range(4)] == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]
    case = program_case(ranks=3, ranks_per_node=1, net="1gbit")
    assert [place_on_node(case, rank) for rank in range(3)] == [(0, 0, 3), (0, 1, 3), (0, 2, 3)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ranks": 2}, False),
        ({"ranks": 4, "ranks_per_node": 2}, True),
        ({"ranks": 4, "ranks_per_node": 2, "steps": 9}, False),
        ({"ranks": 4, "ranks_per_node": 2, "net": "1gbit"}, False),
        ({"ranks": 4, "ranks_per_node": 2, "workload_options": {"whole": True}}, False),
    ],
)
def test_nodes_that_share_nothing_need_a_store_or_given_steps(changes, expected):
    assert needs_given_steps(program_case(**changes)) == expected


def test_nodes_without_a_store_are_told_what_to_do(tmp_path):
    watches = watches_of(program_case(ranks=2, ranks_per_node=1), tmp_path)
    with pytest.raises(ProgramProblem, match="--steps N"):
        step_until_all_stop(watches, rotated)


@pytest.mark.frameworks
def test_ranks_of_several_nodes_agree_by_the_store_of_the_program(tmp_path):
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        watches = watches_of(program_case(ranks=4, ranks_per_node=2), tmp_path)
        # Half a second, in which other nodes hear of the decision, has to be a number of steps that ends.
        step_until_all_stop(watches, lambda watches, step: time.sleep(0.001) or rotated(watches, step))
        assert len({watch.cut for watch in watches}) == 1
        assert len({watch.stopped_at for watch in watches}) == 1
    finally:
        dist.destroy_process_group()


def test_what_ranks_have_shared_does_not_outlive_their_trial(tmp_path):
    Board(tmp_path, 0).publish(Decision(first=3))
    assert Board(tmp_path, 0).read() == Decision(first=3)
    remove_program_copy(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
    assert Board(tmp_path, 0).read() == Decision()
