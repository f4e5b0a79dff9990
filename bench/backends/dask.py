"""Dask: a scheduler, workers that hold the ranks, and a driver that submits them.

``gloo``   Dask places the ranks; torch.distributed carries the gradients.
``tasks``  the gradients are task results and travel from worker to worker through Dask itself.

Under ``tasks`` each rank's training loop runs in a thread of its worker. A chain of tasks, submitted many steps
ahead, is the other end of a mailbox: task (k, r) hands the loop of rank r what the ranks gave in turn k−1, waits
for what it gives in turn k, and returns it, so that one task a rank and a step, and one hop between workers, is
all that an exchange costs. With many ranks the gradients are split instead: shard s of every rank is summed on
worker s, and the partial results are merged, so that a rank receives 2(N−1)/N of its gradients and not N−1 times.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.backends import Backend, Options, Pair, Session
from bench.backends.ddp import DdpOptions, process_group
from bench.identity import Identity
from bench.records import Case, RankFailure, RankRecord, Role

TURNS_A_GRAPH = 64
GRAPHS_AHEAD = 2
SHARDED_FROM = 4
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.low-level-log-length": 0,
    "distributed.worker.daemon": False,
}


class DaskOptions(Options):
    exchange: Literal["auto", "direct", "sharded"] = Field(
        "auto",
        description=f"tasks: whole gradients in one hop, or shards in two; auto shards from {SHARDED_FROM} ranks",
    )


class Mailbox:
    """Between a rank's training thread and the exchange tasks on its worker's event loop."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.given: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waiting: asyncio.Future[None] | None = None
        self.received: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def exchange(self, array: Any) -> tuple[Any, ...]:
        """Give this rank's array, return what came of all ranks'. Called by the training thread."""
        self.given.put(array)
        loop = self.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._wake)
        return self.received.get()

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    async def turn(self, received: tuple[Any, ...]) -> Any:
        """Deliver, then wait for the next array. Called by an exchange task on the event loop."""
        self.loop = asyncio.get_running_loop()
        if received:
            self.received.put(received)
        while True:
            self.waiting = self.loop.create_future()
            try:
                return self.given.get_nowait()
            except queue.Empty:
                await self.waiting


_mailbox = Mailbox()  # one to a worker process


async def give(turn: int, rank: int, *received: Any) -> Any:
    """Task (k, r): deliver the last turn's arrays to this rank's loop and return what it gives next."""
    return await _mailbox.turn(received)


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

    def __init__(self, rank: int, world: int, *, sharded: bool) -> None:
        super().__init__(rank, world)
        self.sharded = sharded

    def wrap(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        return model, ExchangingOptimizer(optimizer, list(model.parameters()), self)

    def all_reduce_sum(self, tensor: Any) -> Any:
        # A copy, since other ranks may still be fetching it when this one goes on and changes the tensor.
        return self.sum_of(tensor.detach().flatten().clone()).view(tensor.shape)

    def sum_of(self, flat: Any) -> Any:
        """The sum over the ranks of a flat tensor that nobody changes afterwards."""
        import numpy as np
        import torch

        received = _mailbox.exchange(flat.numpy())
        return torch.from_numpy(np.concatenate(received) if self.sharded else add_up(*received))

    def blocks_mean(
        self, blocks: tuple[int, int], side: tuple[int, int], make_block: Callable[[int, int], Any]
    ) -> float:
        return mean_by_dask_array(self, blocks, side, make_block)

    def settings(self) -> dict[str, str]:
        return {"transport": "tasks", "exchange": "sharded" if self.sharded else "direct", **versions()}


class ExchangingOptimizer:
    """An optimizer whose step first replaces the gradients by their mean over the ranks."""

    def __init__(self, optimizer: Any, parameters: Sequence[Any], session: TaskSession) -> None:
        self.optimizer, self.parameters, self.session = optimizer, parameters, session

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        import torch

        own = torch.cat([parameter.grad.view(-1) for parameter in self.parameters])
        mean = self.session.sum_of(own).div_(self.session.world)
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, mean.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        self.optimizer.step()


def mean_by_dask_array(session: Session, blocks: Pair, side: Pair, make_block: Callable[[int, int], Any]) -> float:
    """The mean as ``dask.array`` takes it, over all workers; rank 0 asks for it and tells the others."""
    import torch

    mean = 0.0
    if session.rank == 0:
        import dask.array
        import distributed

        def block(block_id: tuple[int, int]) -> Any:
            return make_block(*block_id)

        chunks = ((side[0],) * blocks[0], (side[1],) * blocks[1])
        array = dask.array.map_blocks(block, chunks=chunks, dtype="float64", meta=_empty())
        mean = float(distributed.get_client().compute(array.mean(), sync=True))
    told = session.all_reduce_sum(torch.tensor([mean], dtype=torch.float64))
    return float(told[0])


def _empty() -> Any:
    import numpy as np

    return np.empty((0, 0))


def versions() -> dict[str, str]:
    import dask
    import distributed

    return {"dask": dask.__version__, "distributed": distributed.__version__}


# --- the three roles -------------------------------------------------------------------------------------------


def scheduler(case: Case, me: Identity, out: Path) -> None:
    """Listen at the meeting place until ended."""
    import dask
    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host=me.meeting_host, port=me.meeting_port, dashboard=False) as running:
            await running.finished()

    with dask.config.set(QUIET):
        asyncio.run(serve())


def worker(case: Case, me: Identity, out: Path) -> None:
    """Hold one rank: as many threads as the rank has, and one for the exchange tasks."""
    import dask
    from distributed import Worker

    async def serve() -> None:
        async with Worker(
            f"tcp://{me.meeting_host}:{me.meeting_port}",
            name=me.rank,
            host=me.meeting_host,
            nthreads=case.threads + (case.transport == "tasks"),
            memory_limit=0,
            local_directory=str(out),
            dashboard=False,
        ) as running:
            await running.finished()

    with dask.config.set(QUIET):
        asyncio.run(serve())


def driver(case: Case, me: Identity, out: Path) -> None:
    """Place the ranks on the workers, keep the exchange graph ahead of them, write what they return."""
    import dask
    from distributed import Client, as_completed

    from bench.worker import write

    with dask.config.set(QUIET), _patient_client(Client, me, case.timeout_s) as client:
        client.wait_for_workers(case.ranks, timeout=case.timeout_s)
        found = client.scheduler_info(n_workers=-1)["workers"]
        addresses = [address for _, address in sorted((about["name"], address) for address, about in found.items())]
        port = client.submit(free_port, workers=addresses[:1], pure=False).result()
        ranks = [
            client.submit(rank_in_worker, case.model_dump_json(), rank, me.meeting_host, port,
                          workers=[address], pure=False, key=f"rank-{rank}")
            for rank, address in enumerate(addresses)
        ]  # fmt: skip
        if case.transport == "tasks":
            _keep_ahead(client, addresses, is_sharded(case), ranks)
        for finished in as_completed(ranks):
            found = finished.result()
            if isinstance(found, RankFailure):
                # The other ranks wait for this one in vain.
                write(out, f"failure-{found.role}-{found.rank}.json", found)
                raise SystemExit(1)
            write(out, f"record-{found.rank}.json", found)


def _patient_client(client_class: Any, me: Identity, timeout_s: float) -> Any:
    """Connect once the scheduler listens; Dask's own first retry comes late and its back-off is coarse."""
    import socket

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((me.meeting_host, me.meeting_port), timeout=1).close()
            return client_class(f"tcp://{me.meeting_host}:{me.meeting_port}", timeout=timeout_s)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def free_port() -> int:
    """A port that is free on this worker's host."""
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def rank_in_worker(case_json: str, rank: int, meeting_host: str, port: int) -> RankRecord | RankFailure:
    """A rank as one long task; returns its record, or its failure as a value.

    It leaves the worker's pool, so that the pool's threads serve the exchange.
    """
    import distributed

    from bench.worker import describe_failure, measure_rank

    case = Case.model_validate_json(case_json)
    distributed.secede()
    try:
        return measure_rank(case, Identity(rank, case.ranks, rank, case.ranks, meeting_host, port))
    except Exception as problem:
        return describe_failure("rank", rank, problem)


def is_sharded(case: Case) -> bool:
    chosen = DaskOptions(**case.backend_options).exchange
    return chosen == "sharded" or (chosen == "auto" and case.ranks >= SHARDED_FROM)


def exchange_turns(
    call: Callable[..., Any], first: int, turns: int, addresses: Sequence[str], before: Sequence[Any], *, sharded: bool
) -> list[Any]:
    """The graph of ``turns`` exchanges from turn ``first`` on (pure); returns what its last turn hands on.

    ``call(address, key, function, *arguments)`` makes a task on a worker; ``before`` is what the turn before
    handed on: one array a rank, or one summed shard a rank.
    """
    world = len(addresses)
    handed = list(before)
    for turn in range(first, first + turns):
        given = [
            call(address, f"give-{turn}-{rank}", give, turn, rank, *handed) for rank, address in enumerate(addresses)
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


def _keep_ahead(client: Any, addresses: Sequence[str], sharded: bool, ranks: Sequence[Any]) -> None:
    """Submit the exchange graph in pieces, some pieces ahead of the ranks, until the ranks are done."""
    import dask
    from distributed import wait

    def call(address: str, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with dask.annotate(workers=[address], allow_other_workers=False):
            return dask.delayed(function, pure=False)(*arguments, dask_key_name=key)

    ahead: list[list[Any]] = []
    first = 0
    while not all(rank.done() for rank in ranks):
        while len(ahead) < GRAPHS_AHEAD:
            last = exchange_turns(call, first, TURNS_A_GRAPH, addresses, ahead[-1] if ahead else (), sharded=sharded)
            ahead.append(client.compute(last, optimize_graph=False))
            first += TURNS_A_GRAPH
        done = wait([ahead[0][0], *ranks], return_when="FIRST_COMPLETED").done
        if any(rank in done for rank in ranks):
            return
        ahead.pop(0)


class Dask(Backend):
    name = "dask"
    summary = "ranks inside Dask workers, gradients through Dask's tasks or through gloo"
    requires = ("torch", "dask", "distributed")
    transports = {"cpu": ("tasks", "gloo"), "cuda": ("gloo",)}  # noqa: RUF012 - declared read-only by the contract
    options = DaskOptions
    machinery = {  # noqa: RUF012 - declared read-only by the contract
        "array": "dask.array makes the chunks and the mean through its own task graph, one partial mean a chunk"
    }

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (
            Role(name="scheduler", count=1, service=True),
            Role(name="worker", count=case.ranks, service=True),
            Role(name="driver", count=1),
        )

    @contextmanager
    def session(self, case: Case, me: Identity) -> Iterator[Session]:
        if case.transport == "tasks":
            yield TaskSession(me.rank, me.world, sharded=is_sharded(case))
            return
        with process_group(case, me, "gloo", DdpOptions()) as joined:
            joined.blocks_mean = lambda *what: mean_by_dask_array(joined, *what)  # type: ignore[method-assign]
            yield joined

    def role(self, name: str) -> Callable[[Case, Identity, Path], None] | None:
        return {"scheduler": scheduler, "worker": worker, "driver": driver}.get(name)


BACKEND = Dask()
