"""Arrays over Dask's connections, by real ones between ranks that are threads of this process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bench.backends.dask import local_sockets
from bench.backends.dask.exchange import ExchangeClosed

pytestmark = pytest.mark.frameworks
TIMEOUT_S = 60


class Meeting:
    """In the place of a rank's mailbox: ranks learn each other's addresses."""

    def __init__(self, rank, shared, barrier):
        self.rank, self.shared, self.barrier, self.on_close = rank, shared, barrier, None

    def exchange(self, address):
        self.shared[self.rank] = address
        self.barrier.wait()
        return tuple(self.shared)


@pytest.fixture(params=["tcp", "unix"])
def listen_address(request, tmp_path):
    pytest.importorskip("distributed")
    if request.param == "unix":
        local_sockets.register(tmp_path)
    return f"{request.param}://127.0.0.1"


def run_ranks(world, listen_address, use):
    """What ``use(streams)`` returns, or raises, on each rank."""
    from bench.backends.dask.streams import Streams

    shared, barrier = [None] * world, threading.Barrier(world, timeout=TIMEOUT_S)

    def run(rank):
        streams = Streams(rank, world, Meeting(rank, shared, barrier))
        try:
            streams.connect(listen_address, {}, {})
            return use(streams)
        finally:
            streams.close()

    with ThreadPoolExecutor(world) as pool:
        return [future.result(TIMEOUT_S) for future in [pool.submit(run, rank) for rank in range(world)]]


def arrays_of(rank, length):
    generator = np.random.default_rng(rank)
    return [generator.standard_normal(length).astype(np.float32) for _ in range(3)]


@pytest.mark.parametrize(("world", "length"), [(1, 5), (2, 1_000_003), (3, 200_000), (5, 3), (3, 0)])
def test_every_rank_gets_the_same_sum_to_the_last_bit_whatever_becomes_of_its_own_array(listen_address, world, length):
    def sum_all(streams):
        sums = []
        for array in arrays_of(streams.rank, length):
            sums.append(streams.sum(array).copy())
            array[:] = np.nan
        return sums

    results = run_ranks(world, listen_address, sum_all)
    for turn in range(3):
        expected = arrays_of(0, length)[turn].copy()
        for rank in range(1, world):
            expected += arrays_of(rank, length)[turn]
        for sums in results:
            np.testing.assert_array_equal(sums[turn], expected)


def test_arrays_of_different_sizes_are_named(listen_address):
    def use(streams):
        with pytest.raises(ValueError, match=r"rank . sent an array of . bytes, and rank . one of . bytes"):
            streams.sum(np.zeros(1 + streams.rank, dtype=np.float32))

    run_ranks(2, listen_address, use)


def test_whole_arrays_come_in_the_order_of_the_ranks(listen_address):
    received = run_ranks(
        3, listen_address, lambda streams: np.concatenate(streams.exchange(np.full(4, streams.rank, dtype=np.uint8)))
    )
    assert [array.tolist() for array in received] == [[0] * 4 + [1] * 4 + [2] * 4] * 3


def test_a_rank_that_waits_for_one_that_has_left_is_released_by_its_mailbox(listen_address):
    waiting = threading.Event()

    def use(streams):
        if streams.rank == 0:
            waiting.wait(TIMEOUT_S)
            return None
        release = threading.Timer(0.2, streams.mailbox.on_close)
        release.start()
        waiting.set()
        with pytest.raises(ExchangeClosed):
            streams.sum(np.ones(10))
        release.join()
        return "released"

    assert run_ranks(2, listen_address, use) == [None, "released"]


def test_nobody_else_reaches_a_socket_and_a_path_that_is_too_long_is_noticed(tmp_path):
    assert local_sockets.fits(tmp_path)
    assert not local_sockets.fits(tmp_path / ("x" * 100))
    assert local_sockets.socket_file(tmp_path, 8786).parent == tmp_path
    with pytest.raises(TimeoutError, match=r"no scheduler listens at .*8786\.dask after 0\.1 s"):
        local_sockets.wait_for_socket(tmp_path, 8786, 0.1)
