"""How ranks in Dask workers exchange arrays through tasks: a mailbox per rank, and a graph of tasks between them.

The training loop of each rank runs in a thread of its worker. A chain of tasks, submitted many steps ahead, exchanges
arrays with it through a mailbox: task (k, r) delivers the arrays of turn k−1 to rank r, waits for the rank's array of
turn k, and returns it. An exchange takes one task per rank and step, and one hop between workers. With many ranks the
arrays are split: shard s of every rank is summed on worker s, and the sums are merged, so that a rank receives
2(N−1)/N of an array and not N−1 arrays.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

TURNS_PER_GRAPH = 64
GRAPHS_AHEAD = 2


class ExchangeClosed(Exception):
    """The trial was ended from outside while this rank waited for other ranks."""


class Mailbox:
    """Between a rank's training thread and the exchange tasks on its worker's event loop."""

    def __init__(self) -> None:
        self.closed = False
        self.on_close: Callable[[], object] | None = None
        """Called once it is closed, by whoever closes it: a rank may wait for others elsewhere."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waiting: asyncio.Future[None] | None = None
        self.received: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def exchange(self, array: Any) -> tuple[Any, ...]:
        """Send this rank's array and wait for what came of all. Called by the training thread.

        Returns:
            The arrays of all ranks in their order; where arrays are sharded, the sums of all shards in their order.

        Raises:
            ExchangeClosed: The mailbox is closed.
        """
        self.outgoing.put(array)
        self._wake_threadsafe()
        received = () if self.closed else self.received.get()
        if not received:
            raise ExchangeClosed
        return received

    def close(self) -> None:
        """Release the thread and the task that wait at either end, now and later."""
        self.closed = True
        self.received.put(())
        self._wake_threadsafe()
        if (on_close := self.on_close) is not None:
            with suppress(RuntimeError):
                # The loop that it wakes may be closed by now.
                on_close()

    def _wake_threadsafe(self) -> None:
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    async def turn(self, received: tuple[Any, ...]) -> Any:
        """Deliver the arrays of the turn before, then wait for the next one to send. Called on the event loop."""
        self.loop = asyncio.get_running_loop()
        if received:
            self.received.put(received)
        while not self.closed:
            self.waiting = self.loop.create_future()
            try:
                return self.outgoing.get_nowait()
            except queue.Empty:
                await self.waiting
        return None


_mailboxes: dict[str, Mailbox] = {}  # by trial: a worker holds one rank of a trial, and may outlive many trials


def mailbox(trial: str) -> Mailbox:
    """This worker's mailbox of a trial. The first caller makes it: the rank, or a task that waits for it."""
    return _mailboxes.setdefault(trial, Mailbox())


def close_mailbox(trial: str) -> None:
    """Close the mailbox of a trial and forget it."""
    mailbox(trial).close()
    del _mailboxes[trial]


async def exchange_task(trial: str, turn: int, rank: int, *received: Any) -> Any:
    """Task (k, r): deliver the arrays of turn k−1 to this rank's loop and return the array that it sends."""
    return await mailbox(trial).turn(received)


async def deliver_task(trial: str, received: tuple[Any, ...]) -> None:
    """Deliver to this rank's loop what all ranks gave."""
    mailbox(trial).received.put(received)


def collect(*parts: Any) -> tuple[Any, ...]:
    """What all ranks gave, in one result, so that each of them fetches one and not N of them."""
    return parts


def take_shard(array: Any, shard: int, world: int) -> Any:
    """Shard ``shard`` of ``world`` of a flat array: a view."""
    bounds = [len(array) * edge // world for edge in range(world + 1)]
    return array[bounds[shard] : bounds[shard + 1]]


def sum_arrays(*parts: Any, out: Any = None) -> Any:
    """The element-wise sum, in the order of the ranks, so that every rank gets the same bits; ``out``: its memory."""
    import numpy as np

    if len(parts) == 1:
        return np.positive(parts[0], out=out)
    total = np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        np.add(total, part, out=total)
    return total


def build_exchange_graph(
    call: Callable[..., Any],
    trial: str,
    first: int,
    turns: int,
    addresses: Sequence[str],
    previous: Sequence[Any],
    *,
    sharded: bool,
) -> list[Any]:
    """The graph of ``turns`` exchanges from turn ``first`` on (pure but for ``call``).

    Args:
        call: ``call(address, key, function, *arguments)`` makes a task on the worker at that address.
        trial: The trial whose mailboxes the tasks use.
        first: Number of the first turn, from 0.
        turns: How many turns the graph has.
        addresses: The worker of each rank, by rank.
        previous: What the turn before returned; empty at the first one.
        sharded: Whether arrays are summed in shards.

    Returns:
        The results of the last turn: an array per rank, or a summed shard per rank.
    """
    world = len(addresses)
    results = list(previous)
    for turn in range(first, first + turns):
        outgoing = [
            call(address, f"give-{turn}-{rank}", exchange_task, trial, turn, rank, *results)
            for rank, address in enumerate(addresses)
        ]
        if not sharded:
            results = outgoing
            continue
        results = []
        for shard, target in enumerate(addresses):
            parts = [
                call(address, f"shard-{turn}-{rank}-{shard}", take_shard, outgoing[rank], shard, world)
                for rank, address in enumerate(addresses)
            ]
            results.append(call(target, f"sum-{turn}-{shard}", sum_arrays, *parts))
    return results


def build_single_exchange(call: Callable[..., Any], trial: str, addresses: Sequence[str]) -> list[Any]:
    """The graph of one exchange, after which ranks exchange by other means (pure but for ``call``).

    The arguments are those of :func:`build_exchange_graph`.
    """
    given = [call(address, f"give-0-{rank}", exchange_task, trial, 0, rank) for rank, address in enumerate(addresses)]
    collected = call(addresses[0], "collect", collect, *given)
    return [call(address, f"deliver-{rank}", deliver_task, trial, collected) for rank, address in enumerate(addresses)]


def submit_exchange_graphs(
    client: Any, addresses: Sequence[str], mode: str, ranks: Sequence[Any], trial: str = ""
) -> list[Any]:
    """Submit the exchange graph in pieces, some pieces ahead of the ranks, until the first rank is done; a single
    exchange for the mode ``stream``.

    Returns:
        The futures submitted last, to be held until all ranks are done: releasing them cancels their tasks, and the
        last exchange may still be on its way to the other ranks.
    """
    import dask
    from distributed import wait

    def call(address: str, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with dask.annotate(workers=[address], allow_other_workers=False):
            return dask.delayed(function, pure=False)(*arguments, dask_key_name=trial + key)

    if mode == "stream":
        return [client.compute(build_single_exchange(call, trial, addresses), optimize_graph=False)]
    submitted: list[list[Any]] = []
    first, sharded = 0, mode == "sharded"
    while True:
        while len(submitted) < GRAPHS_AHEAD:
            previous = submitted[-1] if submitted else ()
            last = build_exchange_graph(call, trial, first, TURNS_PER_GRAPH, addresses, previous, sharded=sharded)
            submitted.append(client.compute(last, optimize_graph=False))
            first += TURNS_PER_GRAPH
        done = wait([submitted[0][0], *ranks], return_when="FIRST_COMPLETED").done
        if any(rank in done for rank in ranks):
            return submitted
        submitted.pop(0)
