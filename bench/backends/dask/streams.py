"""Arrays of ranks over Dask's own connections between them, without a task for each step.

Each rank listens for the others with Dask's ``distributed.comm`` (its protocol, certificates and serialization), in an
event loop of the training thread: nothing is handed from thread to thread, and an array is not copied on its way into
the socket and out of it. Ranks learn each other's addresses by one exchange through tasks.

Two ranks send each other whole arrays. More of them sum in two halves: rank r gets shard r of all arrays, sums it, and
sends the sum to all, so that a rank sends and receives 2(N−1)/N of an array. Sums are taken in the order of the ranks:
every rank gets the same bits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from bench.backends.dask.exchange import ExchangeClosed, Mailbox, sum_arrays, take_shard

MAX_WHOLE_RANKS = 2
"""Up to this many ranks, whole arrays are sent: one message on the way, and no more bytes than in shards."""
Result = TypeVar("Result")


class Streams:
    """One connection from this rank to each other one, for what it sends, and one back.

    Args:
        rank: This rank.
        world: The number of ranks.
        mailbox: By it the ranks tell their addresses; once it is closed, this rank waits for no other.
    """

    def __init__(self, rank: int, world: int, mailbox: Mailbox) -> None:
        self.rank, self.world, self.mailbox = rank, world, mailbox
        self.loop = asyncio.new_event_loop()
        self.closed = asyncio.Event()
        self.outgoing: dict[int, Any] = {}
        self.incoming: dict[int, Any] = {}
        self._listener: Any = None
        self.complete = asyncio.Event()
        """Whether all other ranks are connected to this one."""
        mailbox.on_close = lambda: self.loop.call_soon_threadsafe(self.closed.set)

    def connect(self, listen_address: str, listen_args: dict[str, Any], connect_args: dict[str, Any]) -> None:
        """Connect this rank to all others.

        Args:
            listen_address: Where it listens: a protocol and a host, as Dask writes them.
            listen_args: Dask's arguments for that, such as certificates.
            connect_args: Those for connections to others.
        """
        address = self._run(self._listen(listen_address, listen_args))
        addresses = [bytes(received).decode() for received in self.mailbox.exchange(address.encode())]
        self._run(self._connect(addresses, connect_args))

    def exchange(self, array: Any) -> tuple[Any, ...]:
        """Send a whole flat array to all ranks; returns those of all ranks, in their order.

        It may be changed afterwards.

        Raises:
            ExchangeClosed: The mailbox is closed.
        """
        return self._run(self._swap([array] * self.world))

    def sum(self, array: Any) -> Any:
        """The sum over the ranks of a flat array, which may be changed afterwards.

        Raises:
            ExchangeClosed: The mailbox is closed.
        """
        return self._run(self._sum(array))

    def close(self) -> None:
        """Close all connections. What was sent before arrives."""
        self.mailbox.on_close = None
        with suppress(Exception):
            self.loop.run_until_complete(self._close())
        self.loop.close()

    async def _sum(self, array: Any) -> Any:
        if self.world <= MAX_WHOLE_RANKS:
            return sum_arrays(*await self._swap([array] * self.world))
        import numpy as np

        parts = await self._swap([take_shard(array, shard, self.world) for shard in range(self.world)])
        return np.concatenate(await self._swap([sum_arrays(*parts)] * self.world))

    async def _swap(self, outgoing: Sequence[Any]) -> tuple[Any, ...]:
        """Send an array to each rank; returns what came from each, one's own among them."""
        from distributed.protocol import to_serialize

        others = [(self.rank + step) % self.world for step in range(1, self.world)]
        for other in others:
            await self.outgoing[other].write(to_serialize(outgoing[other]))
        received = dict(
            zip(others, await asyncio.gather(*(self.incoming[other].read() for other in others)), strict=True)
        )
        for other in others:
            stream = self.outgoing[other].stream
            if stream.writing():
                # Until the last byte is in the socket: nobody runs this loop before the next exchange.
                await stream.write(b"")
        received[self.rank] = outgoing[self.rank]
        return tuple(received[rank] for rank in range(self.world))

    async def _listen(self, address: str, listen_args: dict[str, Any]) -> str:
        from distributed.comm import listen

        self._listener = await listen(address, self._take_connection, **listen_args)
        return str(self._listener.contact_address)

    async def _take_connection(self, comm: Any) -> None:
        self.incoming[await comm.read()] = comm
        if len(self.incoming) == self.world - 1:
            self.complete.set()

    async def _connect(self, addresses: Sequence[str], connect_args: dict[str, Any]) -> None:
        from distributed.comm import connect

        for other, address in enumerate(addresses):
            if other != self.rank:
                self.outgoing[other] = comm = await connect(address, **connect_args)
                await comm.write(self.rank)
        if self.world > 1:
            await self.complete.wait()

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        for comm in [*self.outgoing.values(), *self.incoming.values()]:
            await comm.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run the loop until this is done, or the mailbox is closed."""
        return self.loop.run_until_complete(self._unless_closed(work))

    async def _unless_closed(self, work: Coroutine[Any, Any, Result]) -> Result:
        from distributed.comm import CommClosedError

        task, closed = asyncio.ensure_future(work), asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait([task, closed], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                with suppress(CommClosedError):
                    return task.result()
                # The other rank has ended or is ending. Who supervises the ranks knows why, and ends this one.
                await closed
            raise ExchangeClosed
        finally:
            task.cancel()
            closed.cancel()


def connect_ranks(rank: int, world: int, mailbox: Mailbox, worker: Any) -> Streams:
    """Connect the rank in this thread of a Dask worker to the others, by that worker's protocol and security."""
    from distributed.comm.addressing import get_address_host, parse_address, unparse_address

    scheme, _ = parse_address(worker.address)
    host = unparse_address(scheme, get_address_host(worker.address))
    security, streams = worker.security, Streams(rank, world, mailbox)
    try:
        streams.connect(host, security.get_listen_args("worker"), security.get_connection_args("worker"))
    except BaseException:
        streams.close()
        raise
    return streams
