"""How ranks inside Dask workers exchange arrays through Dask's own tasks. It places no ranks and starts no cluster.

Each rank's training loop runs in a thread of its worker. A chain of tasks, submitted many steps ahead, is the other
end of a mailbox: task (k, r) hands the loop of rank r what the ranks gave in turn k−1, waits for what it gives in
turn k, and returns it, so that one task a rank and a step, and one hop between workers, is all that an exchange costs.
With many ranks the arrays are split instead: shard s of every rank is summed on worker s, and the partial results are
merged, so that a rank receives 2(N−1)/N of an array and not N−1 arrays.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.backends import Pair, Session
from bench.dask_holding import Asks
from bench.gradients import Grouping

TURNS_A_GRAPH = 64
GRAPHS_AHEAD = 2
WHOLE = 2**62
"""Bytes: all gradients make one message."""


class Abandoned(Exception):
    """The trial was ended from outside while this rank waited for the others."""


class Mailbox:
    """Between a rank's training thread and the exchange tasks on its worker's event loop."""

    def __init__(self) -> None:
        self.closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.given: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waiting: asyncio.Future[None] | None = None
        self.received: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def exchange(self, array: Any) -> tuple[Any, ...]:
        """Give this rank's array, return what came of all ranks'. Called by the training thread.

        Raises :class:`Abandoned` once the mailbox is closed.
        """
        self.given.put(array)
        self._rouse()
        received = () if self.closed else self.received.get()
        if not received:
            raise Abandoned
        return received

    def close(self) -> None:
        """Let go of whoever waits at either end, now and later."""
        self.closed = True
        self.received.put(())
        self._rouse()

    def _rouse(self) -> None:
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    async def turn(self, received: tuple[Any, ...]) -> Any:
        """Deliver, then wait for the next array. Called by an exchange task on the event loop."""
        self.loop = asyncio.get_running_loop()
        if received:
            self.received.put(received)
        while not self.closed:
            self.waiting = self.loop.create_future()
            try:
                return self.given.get_nowait()
            except queue.Empty:
                await self.waiting
        return None


_mailboxes: dict[str, Mailbox] = {}  # by trial: a worker holds one rank of a trial, and may outlive many trials


def mailbox(trial: str) -> Mailbox:
    """This worker's of a trial. Whoever asks first makes it: the rank, or the task that waits for it."""
    return _mailboxes.setdefault(trial, Mailbox())


def close_mailbox(trial: str) -> None:
    """Nobody of that trial waits here any more."""
    mailbox(trial).close()
    del _mailboxes[trial]


async def give(trial: str, turn: int, rank: int, *received: Any) -> Any:
    """Task (k, r): deliver the last turn's arrays to this rank's loop and return what it gives next."""
    return await mailbox(trial).turn(received)


def take_shard(array: Any, shard: int, world: int) -> Any:
    """Shard ``shard`` of ``world`` of a flat array: a view."""
    bounds = [len(array) * edge // world for edge in range(world + 1)]
    return array[bounds[shard] : bounds[shard + 1]]


def add_up(*parts: Any) -> Any:
    """The element-wise sum, in the order of the ranks, so that every rank gets the same bits."""
    import numpy as np

    if len(parts) == 1:
        return parts[0].copy()
    total = np.add(parts[0], parts[1])
    for part in parts[2:]:
        np.add(total, part, out=total)
    return total


class TaskSession(Session):
    """A rank whose exchange goes through Dask tasks."""

    def __init__(self, rank: int, world: int, *, sharded: bool, asks: Asks) -> None:
        super().__init__(rank, world)
        self.sharded, self.asks = sharded, asks
        self.mailbox = mailbox(asks.trial)
        self.optimizer: Any = None

    @property
    def grouping(self) -> Grouping:
        return Grouping(first_bytes=WHOLE, most_bytes=WHOLE, laid_out=True, overlaps=False)

    def wrap(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        self.optimizer = ExchangingOptimizer(optimizer, list(model.parameters()), self)
        return model, self.optimizer

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        self.optimizer.exchanging = False
        try:
            yield
        finally:
            self.optimizer.exchanging = True

    def all_reduce_sum(self, tensor: Any) -> Any:
        # A copy, since other ranks may still be fetching it when this one goes on and changes the tensor.
        return self.sum_of(tensor.detach().flatten().clone()).view(tensor.shape)

    def sum_of(self, flat: Any) -> Any:
        """The sum over the ranks of a flat tensor that nobody changes afterwards."""
        import numpy as np
        import torch

        received = self.mailbox.exchange(flat.numpy())
        return torch.from_numpy(np.concatenate(received) if self.sharded else add_up(*received))

    def blocks_mean(self, blocks: Pair, side: Pair, make_block: Callable[[int, int], Any]) -> float:
        return mean_by_dask_array(self, self.asks, blocks, side, make_block)

    def settings(self) -> dict[str, str]:
        exchange = "sharded" if self.sharded else "direct"
        return {"transport": "tasks", "exchange": exchange, **self.asks.settings, **versions()}


class ExchangingOptimizer:
    """An optimizer whose step first replaces the gradients by their mean over the ranks."""

    def __init__(self, optimizer: Any, parameters: Sequence[Any], session: TaskSession) -> None:
        self.optimizer, self.parameters, self.session = optimizer, parameters, session
        self.exchanging = True

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def state_dict(self) -> Any:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)

    def step(self) -> None:
        if self.exchanging:
            self._exchange()
        self.optimizer.step()

    def _exchange(self) -> None:
        import torch

        own = torch.cat([parameter.grad.view(-1) for parameter in self.parameters])
        mean = self.session.sum_of(own).div_(self.session.world)
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, mean.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)


def mean_by_dask_array(
    session: Session, asks: Asks, blocks: Pair, side: Pair, make_block: Callable[[int, int], Any]
) -> float:
    """The mean as ``dask.array`` takes it, over the ranks' workers; rank 0 asks for it and tells the others."""
    import torch

    mean = 0.0
    if session.rank == 0:
        import dask.array

        def block(block_id: tuple[int, int]) -> Any:
            return make_block(*block_id)

        chunks = ((side[0],) * blocks[0], (side[1],) * blocks[1])
        array = dask.array.map_blocks(block, chunks=chunks, dtype="float64", meta=_empty())
        mean = float(asks.client().compute(array.mean(), sync=True, **asks.only))
    told = session.all_reduce_sum(torch.tensor([mean], dtype=torch.float64))
    return float(told[0])


def _empty() -> Any:
    import numpy as np

    return np.empty((0, 0))


def versions() -> dict[str, str]:
    import dask
    import distributed

    return {"dask": dask.__version__, "distributed": distributed.__version__}


def exchange_turns(
    call: Callable[..., Any],
    trial: str,
    first: int,
    turns: int,
    addresses: Sequence[str],
    before: Sequence[Any],
    *,
    sharded: bool,
) -> list[Any]:
    """The graph of ``turns`` exchanges from turn ``first`` on (pure); returns what its last turn hands on.

    ``call(address, key, function, *arguments)`` makes a task on a worker; ``before`` is what the turn before
    handed on: one array a rank, or one summed shard a rank.
    """
    world = len(addresses)
    handed = list(before)
    for turn in range(first, first + turns):
        given = [
            call(address, f"give-{turn}-{rank}", give, trial, turn, rank, *handed)
            for rank, address in enumerate(addresses)
        ]
        if not sharded:
            handed = given
            continue
        handed = []
        for shard, target in enumerate(addresses):
            parts = [
                call(address, f"shard-{turn}-{rank}-{shard}", take_shard, given[rank], shard, world)
                for rank, address in enumerate(addresses)
            ]
            handed.append(call(target, f"sum-{turn}-{shard}", add_up, *parts))
    return handed


def keep_ahead(
    client: Any, addresses: Sequence[str], sharded: bool, ranks: Sequence[Any], trial: str = ""
) -> list[Any]:
    """Submit the exchange graph in pieces, some pieces ahead of the ranks, until the first rank is done.

    Returns what was submitted last, to be held until all ranks are done: dropping it cancels its tasks, and the
    exchange that let the first rank finish may still be on its way to the others.
    """
    import dask
    from distributed import wait

    def call(address: str, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with dask.annotate(workers=[address], allow_other_workers=False):
            return dask.delayed(function, pure=False)(*arguments, dask_key_name=trial + key)

    ahead: list[list[Any]] = []
    first = 0
    while True:
        while len(ahead) < GRAPHS_AHEAD:
            before = ahead[-1] if ahead else ()
            last = exchange_turns(call, trial, first, TURNS_A_GRAPH, addresses, before, sharded=sharded)
            ahead.append(client.compute(last, optimize_graph=False))
            first += TURNS_A_GRAPH
        done = wait([ahead[0][0], *ranks], return_when="FIRST_COMPLETED").done
        if any(rank in done for rank in ranks):
            return ahead
        ahead.pop(0)
