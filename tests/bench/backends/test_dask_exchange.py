"""The graph of the exchange, carried out by hand: what each rank is handed is the sum of what all gave."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from bench.backends.dask.exchange import (
    ExchangeClosed,
    Mailbox,
    build_exchange_graph,
    build_single_exchange,
    deliver_task,
    exchange_task,
    sum_arrays,
    take_shard,
)
from bench.backends.dask.options import exchange_mode
from tests.support.builders import make_case


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_turn_hands_every_rank_the_sum(world, sharded):
    given = {(turn, rank): np.arange(7.0) * (turn + 1) + rank for turn in range(3) for rank in range(world)}
    handed: dict[tuple[int, int], np.ndarray] = {}

    def call(address, key, function, *arguments):
        if function is not exchange_task:
            return function(*arguments)
        _, turn, rank, *received = arguments
        assert address == f"worker-{rank}"
        if received:
            handed[turn - 1, rank] = np.concatenate(received) if sharded else sum_arrays(*received)
        return given[turn, rank]

    addresses = [f"worker-{rank}" for rank in range(world)]
    before = build_exchange_graph(call, "t", 0, 2, addresses, (), sharded=sharded)
    build_exchange_graph(call, "t", 2, 1, addresses, before, sharded=sharded)
    for turn in range(2):
        expected = sum(given[turn, rank] for rank in range(world))
        for rank in range(world):
            np.testing.assert_allclose(handed[turn, rank], expected)


def test_a_single_exchange_delivers_what_all_gave_to_each():
    delivered = {}

    def call(address, key, function, *arguments):
        if function is exchange_task:
            return f"of {arguments[2]}"
        if function is deliver_task:
            delivered[address] = arguments[1]
            return None
        return function(*arguments)

    build_single_exchange(call, "t", ["a", "b", "c"])
    assert delivered == dict.fromkeys("abc", ("of 0", "of 1", "of 2"))


@pytest.mark.parametrize(("length", "world"), [(10, 3), (2, 4), (0, 2)])
def test_shards_are_a_partition(length, world):
    whole = np.arange(length)
    np.testing.assert_array_equal(np.concatenate([take_shard(whole, s, world) for s in range(world)]), whole)


def test_a_sum_never_aliases_its_arguments():
    alone = np.ones(3)
    assert sum_arrays(alone) is not alone
    sum_arrays(alone, alone)[:] = 9
    np.testing.assert_array_equal(alone, np.ones(3))


def test_the_keys_of_a_graph_differ():
    keys = []

    def call(address, key, function, *arguments):
        keys.append(key)
        return np.zeros(4)

    build_exchange_graph(call, "t", 0, 3, ["a", "b"], (), sharded=True)
    assert len(keys) == len(set(keys))


def test_the_mailbox_passes_arrays_both_ways_between_thread_and_event_loop():
    box, turns = Mailbox(), 200
    seen = []

    def train():
        for number in range(turns):
            (received,) = box.exchange(number)
            seen.append(received)

    async def serve():
        received = ()
        for _ in range(turns):
            received = (await box.turn(received) * 10,)
        box.received.put(received)

    thread = threading.Thread(target=train)
    thread.start()
    asyncio.run(asyncio.wait_for(serve(), 20))
    thread.join(20)
    assert seen == [number * 10 for number in range(turns)]


def test_a_closed_mailbox_releases_both_ends():
    box, closed = Mailbox(), threading.Event()

    def train():
        try:
            box.exchange("mine")
        except ExchangeClosed:
            closed.set()

    async def serve():
        assert await box.turn(()) == "mine"
        waiting = asyncio.create_task(box.turn(()))
        await asyncio.sleep(0)
        box.close()
        assert await asyncio.wait_for(waiting, 10) is None
        assert await box.turn(()) is None

    thread = threading.Thread(target=train)
    thread.start()
    asyncio.run(serve())
    thread.join(10)
    assert closed.is_set()


def test_arrays_go_over_streams_unless_tasks_are_asked_for():
    assert exchange_mode(make_case(backend="dask", transport="tasks", ranks=2)) == "stream"
    assert (
        exchange_mode(make_case(backend="dask", transport="tasks", backend_options={"exchange": "direct"})) == "direct"
    )
