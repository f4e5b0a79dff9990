"""Arrays of ranks over Dask's own connections between them, without a task for each step.

Each rank listens for the others with Dask's ``distributed.comm`` (its protocols and certificates), in an event loop of
the training thread: nothing is handed from thread to thread, and arrays are sent and received without copies. Ranks
learn each other's addresses by one exchange through tasks.

Two ranks send each other whole arrays. More of them sum in two halves: rank r gets shard r of all arrays, sums it, and
sends the sum to all, so that a rank sends and receives 2(N−1)/N of an array. Small arrays are summed by rank 0: that
takes 2(N−1) messages in place of 2N(N−1). Sums are taken in the order of the ranks: every rank gets the same bits.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from bench.backends.dask.exchange import ExchangeClosed, Mailbox, sum_arrays, take_shard

LENGTH = struct.Struct("!Q")
"""Before each array: its bytes."""
MAX_WHOLE_RANKS = 2
"""Up to this many ranks, whole arrays are sent: one message on the way, and no more bytes than in shards."""
MAX_BYTES_AT_FIRST = 4096
"""Arrays of up to so many bytes are summed by rank 0, where there are more ranks than that."""
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
        self._buffers: dict[tuple[object, str, int], Any] = {}
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

        They are valid until the next exchange, like this rank's own, which is one of them.

        Raises:
            ExchangeClosed: The mailbox is closed.
        """
        return tuple(self._run(self._swap([array] * self.world, self._buffers_like(array))))

    def sum(self, array: Any) -> Any:
        """The sum over the ranks of a flat array, which may be changed afterwards; it is valid until the next exchange.

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
        total = self._buffer("total", array)
        if self.world <= MAX_WHOLE_RANKS:
            sum_arrays(*await self._swap([array] * self.world, self._buffers_like(array)), out=total)
            return total
        if array.nbytes <= MAX_BYTES_AT_FIRST:
            await self._sum_at_first(array, total)
            return total
        shards, sums = ([take_shard(whole, rank, self.world) for rank in range(self.world)] for whole in (array, total))
        own = sums[self.rank]
        sum_arrays(*await self._swap(shards, self._buffers_like(own)), out=own)
        await self._swap([own] * self.world, sums)
        return total

    async def _sum_at_first(self, array: Any, total: Any) -> None:
        """Let rank 0 sum the arrays of all ranks into ``total``, and send it to the others."""
        if self.rank:
            sent = self._send(0, array)
            await self._receive(0, total)
            await sent
            return
        buffers, others = self._buffers_like(array), range(1, self.world)
        await asyncio.gather(*(self._receive(other, buffers[other]) for other in others))
        sum_arrays(array, *buffers[1:], out=total)
        await asyncio.gather(*[self._send(other, total) for other in others])

    async def _swap(self, outgoing: Sequence[Any], buffers: Sequence[Any]) -> list[Any]:
        """Send an array to each rank and receive one from each.

        Args:
            outgoing: What each rank gets, by rank.
            buffers: The memory for what comes from each, by rank.

        Returns:
            What has come from each rank, one's own among them.
        """
        others = [(self.rank + step) % self.world for step in range(1, self.world)]
        sent = [self._send(other, outgoing[other]) for other in others]
        await asyncio.gather(*(self._receive(other, buffers[other]) for other in others))
        # Until the last byte is in the socket: nobody runs this loop before the next exchange.
        await asyncio.gather(*sent)
        return [array if rank != self.rank else outgoing[rank] for rank, array in enumerate(buffers)]

    def _send(self, other: int, array: Any) -> Any:
        stream, message = self._stream(self.outgoing[other]), memoryview(array.view("uint8"))
        stream.write(LENGTH.pack(len(message)))
        return stream.write(message) if message else stream.write(b"")

    async def _receive(self, other: int, array: Any) -> None:
        stream, buffer = self._stream(self.incoming[other]), memoryview(array.view("uint8"))
        (length,) = LENGTH.unpack(await stream.read_bytes(LENGTH.size))
        if length != len(buffer):
            raise ValueError(
                f"rank {other} sent an array of {length} bytes, and rank {self.rank} one of {len(buffer)} bytes"
            )
        if buffer:
            await stream.read_into(buffer)

    def _stream(self, comm: Any) -> Any:
        """The byte stream of a connection of Dask's. Its messages would allocate the memory of each array anew, and to
        touch that for the first time takes longer than the transfer."""
        if comm.stream is None:
            raise ConnectionResetError
        return comm.stream

    def _buffers_like(self, array: Any) -> list[Any]:
        return [self._buffer(rank, array) for rank in range(self.world)]

    def _buffer(self, name: object, like: Any) -> Any:
        """Memory for an array that is as large as another one: the same each time."""
        import numpy as np

        key = (name, like.dtype.str, len(like))
        if key not in self._buffers:
            self._buffers[key] = np.empty_like(like)
        return self._buffers[key]

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
        from tornado.iostream import StreamClosedError

        task, closed = asyncio.ensure_future(work), asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait([task, closed], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                with suppress(OSError, StreamClosedError):
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
