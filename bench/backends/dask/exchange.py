"""How ranks in Dask workers exchange arrays through tasks. It submits no ranks.

The training loop of each rank runs in a thread of its worker. A chain of tasks, submitted many steps ahead, exchanges
arrays with it through a mailbox: task (k, r) delivers the arrays of turn k−1 to rank r, waits for the rank's array of
turn k, and returns it. An exchange takes one task per rank and step, and one hop between workers. With many ranks the
arrays are split: shard s of every rank is summed on worker s, and the sums are merged, so that a rank receives
2(N−1)/N of an array and not N−1 arrays.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.backends.dask.cluster_ref import DaskContext
from bench.core.records import GradientBuckets
from bench.plugins.backend import MakeOptimizer, Session, Shape2D

TURNS_PER_GRAPH = 64
GRAPHS_AHEAD = 2
NO_SIZE_LIMIT = 2**62
"""In bytes: all gradients are one message."""


class ExchangeClosed(Exception):
    """The trial was ended from outside while this rank waited for other ranks."""


class Mailbox:
    """Between a rank's training thread and the exchange tasks on its worker's event loop."""

    def __init__(self) -> None:
        self.closed = False
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


def take_shard(array: Any, shard: int, world: int) -> Any:
    """Shard ``shard`` of ``world`` of a flat array: a view."""
    bounds = [len(array) * edge // world for edge in range(world + 1)]
    return array[bounds[shard] : bounds[shard + 1]]


def sum_arrays(*parts: Any) -> Any:
    """The element-wise sum, in the order of the ranks, so that every rank gets the same bits."""
    import numpy as np

    if len(parts) == 1:
        return parts[0].copy()
    total = np.add(parts[0], parts[1])
    for part in parts[2:]:
        np.add(total, part, out=total)
    return total


class DaskTaskSession(Session):
    """A rank whose exchange goes through Dask tasks."""

    def __init__(self, rank: int, world: int, *, sharded: bool, dask_context: DaskContext) -> None:
        super().__init__(rank, world)
        self.sharded, self.dask_context = sharded, dask_context
        self.mailbox = mailbox(dask_context.trial)
        self.optimizer: Any = None

    @property
    def grouping(self) -> GradientBuckets:
        return GradientBuckets(first_bytes=NO_SIZE_LIMIT, most_bytes=NO_SIZE_LIMIT, laid_out=True, overlaps=False)

    def build_optimizer(self, model: Any, make: MakeOptimizer) -> Any:
        parameters = list(model.parameters())
        self.optimizer = AveragingOptimizer(make(parameters), parameters, self)
        return self.optimizer

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.optimizer.sync_gradients = False
        try:
            yield
        finally:
            self.optimizer.sync_gradients = True

    def all_reduce_sum(self, tensor: Any) -> Any:
        # A copy, since other ranks may still be fetching it when this one goes on and changes the tensor.
        return self.sum_over_ranks(tensor.detach().flatten().clone()).view(tensor.shape)

    def sum_over_ranks(self, flat: Any) -> Any:
        """The sum over the ranks of a flat tensor, which must not be changed afterwards: others may still fetch it."""
        import numpy as np
        import torch

        received = self.mailbox.exchange(flat.numpy())
        return torch.from_numpy(np.concatenate(received) if self.sharded else sum_arrays(*received))

    def blocks_mean(self, grid_shape: Shape2D, block_shape: Shape2D, make_block: Callable[[int, int], Any]) -> float:
        return dask_array_mean(self, self.dask_context, grid_shape, block_shape, make_block)

    def settings(self) -> dict[str, str]:
        exchange = "sharded" if self.sharded else "direct"
        return {"transport": "tasks", "exchange": exchange, **self.dask_context.settings, **versions()}


class AveragingOptimizer:
    """An optimizer whose step first replaces the gradients by their mean over the ranks."""

    def __init__(self, optimizer: Any, parameters: Sequence[Any], session: DaskTaskSession) -> None:
        self.optimizer, self.parameters, self.session = optimizer, parameters, session
        self.sync_gradients = True

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def state_dict(self) -> Any:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)

    def step(self) -> None:
        if self.sync_gradients:
            self._exchange()
        self.optimizer.step()

    def _exchange(self) -> None:
        import torch

        own_gradients = torch.cat([parameter.grad.view(-1) for parameter in self.parameters])
        mean = self.session.sum_over_ranks(own_gradients).div_(self.session.world)
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, mean.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)


def dask_array_mean(
    session: Session,
    dask_context: DaskContext,
    grid_shape: Shape2D,
    block_shape: Shape2D,
    make_block: Callable[[int, int], Any],
) -> float:
    """The mean as ``dask.array`` takes it over the ranks' workers. Rank 0 computes it and sends it to the others."""
    import torch

    mean = 0.0
    if session.rank == 0:
        import dask.array

        def block(block_id: tuple[int, int]) -> Any:
            return make_block(*block_id)

        chunks = ((block_shape[0],) * grid_shape[0], (block_shape[1],) * grid_shape[1])
        array = dask.array.map_blocks(block, chunks=chunks, dtype="float64", meta=_empty())
        mean = float(dask_context.client().compute(array.mean(), sync=True, **dask_context.compute_options))
    reduced = session.all_reduce_sum(torch.tensor([mean], dtype=torch.float64))
    return float(reduced[0])


def _empty() -> Any:
    import numpy as np

    return np.empty((0, 0))


def versions() -> dict[str, str]:
    import dask
    import distributed

    return {"dask": dask.__version__, "distributed": distributed.__version__}


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


def submit_exchange_graphs(
    client: Any, addresses: Sequence[str], sharded: bool, ranks: Sequence[Any], trial: str = ""
) -> list[Any]:
    """Submit the exchange graph in pieces, some pieces ahead of the ranks, until the first rank is done.

    Returns:
        The futures submitted last, to be held until all ranks are done: releasing them cancels their tasks, and the
        last exchange may still be on its way to the other ranks.
    """
    import dask
    from distributed import wait

    def call(address: str, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with dask.annotate(workers=[address], allow_other_workers=False):
            return dask.delayed(function, pure=False)(*arguments, dask_key_name=trial + key)

    submitted: list[list[Any]] = []
    first = 0
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
