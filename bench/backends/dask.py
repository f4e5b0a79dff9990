"""Dask: a scheduler, workers that hold the ranks, and a driver that submits them.

``gloo``   Dask places the ranks; torch.distributed carries the gradients.
``tasks``  the gradients are task results and travel from worker to worker through Dask itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field

from bench.backends import Backend, Options, Pair, Session
from bench.backends.ddp import DdpOptions, ProcessGroupSession, process_group
from bench.case import Case, Role
from bench.dask_exchange import TaskSession, keep_ahead, mean_by_dask_array
from bench.dask_holding import Asks, asking
from bench.identity import Identity, identify
from bench.local import await_listener, free_port, where_to_listen
from bench.records import RankFailure, RankRecord
from bench.value import Value

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


class PlacedSession(ProcessGroupSession):
    """A rank that Dask placed: its exchange is torch's, and an array is taken by Dask's own machinery."""

    asks = Asks()

    def blocks_mean(self, blocks: Pair, side: Pair, make_block: Callable[[int, int], Any]) -> float:
        return mean_by_dask_array(self, self.asks, blocks, side, make_block)


def scheduler(case: Case, me: Identity, out: Path) -> None:
    """Listen at the meeting place until ended."""
    import dask
    from distributed import Scheduler

    host = where_to_listen(me.meeting_host, me.own_host)

    async def serve() -> None:
        async with Scheduler(host=host, port=me.meeting_port, dashboard=False) as running:
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
            host=me.own_host or me.meeting_host,
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

    await_listener(me.meeting_host, me.meeting_port, case.timeout_s)
    meeting = f"tcp://{me.meeting_host}:{me.meeting_port}"
    with dask.config.set(QUIET), Client(meeting, timeout=case.timeout_s) as client:
        client.wait_for_workers(case.ranks, timeout=case.timeout_s)
        found = client.scheduler_info(n_workers=-1)["workers"]
        addresses = [address for _, address in sorted((about["name"], address) for address, about in found.items())]
        port = client.submit(free_port, workers=addresses[:1], pure=False).result()
        ranks = [
            client.submit(rank_in_worker, case.model_dump_json(), rank, me.meeting_host, port, str(out),
                          workers=[address], pure=False, key=f"rank-{rank}")
            for rank, address in enumerate(addresses)
        ]  # fmt: skip
        held = keep_ahead(client, addresses, is_sharded(case), ranks) if case.transport == "tasks" else []
        for finished in as_completed(ranks):
            told = Told.model_validate_json(finished.result())
            if told.failure is not None:
                # The other ranks wait for this one in vain.
                write(out, f"failure-{told.failure.role}-{told.failure.rank}.json", told.failure)
                raise SystemExit(1)
            if told.record is not None:
                write(out, f"record-{told.record.rank}.json", told.record)
        del held


class Told(Value):
    """What comes back of a rank: one of the two, as JSON text."""

    record: RankRecord | None = None
    failure: RankFailure | None = None


def rank_in_worker(case_json: str, rank: int, meeting_host: str, port: int, out: str) -> str:
    """A rank as one long task; returns its record, or its failure, as the text of a :class:`Told`.

    It leaves the worker's pool, so that the pool's threads serve the exchange.
    """
    import distributed

    from bench.worker import describe_failure, measure_rank

    case = Case.model_validate_json(case_json)
    failures: list[RankFailure] = []
    distributed.secede()
    try:
        # Its place on the machine is that of the worker it runs in.
        worker = identify(os.environ)
        me = replace(
            worker, rank=rank, world=case.ranks, meeting_host=meeting_host, meeting_port=port, own_host=own_host()
        )
        return Told(record=measure_rank(case, me, Path(out), failures.append)).model_dump_json()
    except Exception as problem:
        failure = failures[0] if failures else describe_failure("rank", rank, problem)
        return Told(failure=failure).model_dump_json()


def own_host() -> str:
    """The address by which the others reach the worker that runs this task."""
    import distributed

    return urlsplit(distributed.get_worker().address).hostname or ""


def is_sharded(case: Case) -> bool:
    chosen = DaskOptions(**case.backend_options).exchange
    return chosen == "sharded" or (chosen == "auto" and case.ranks >= SHARDED_FROM)


class Dask(Backend):
    name = "dask"
    summary = "ranks inside Dask workers, gradients through Dask's tasks or through gloo"
    requires = ("torch", "dask", "distributed")
    transports = {"cpu": ("tasks", "gloo"), "cuda": ("gloo",)}  # noqa: RUF012 - declared read-only by the contract
    preload = ("distributed", "dask.array")
    options = DaskOptions
    machinery = {  # noqa: RUF012 - declared read-only by the contract
        "array": "dask.array makes the chunks and the mean through its own task graph, one partial mean a chunk"
    }

    def launch(self, case: Case) -> tuple[Role, ...]:
        if case.site == "dask":
            # Scheduler and workers are there, and the site places the ranks.
            return (Role(name="rank", count=case.ranks),)
        return (
            Role(name="scheduler", count=1, service=True),
            Role(name="worker", count=case.ranks, service=True),
            Role(name="driver", count=1),
        )

    @contextmanager
    def session(self, case: Case, me: Identity) -> Iterator[Session]:
        with asking(case, me) as asks:
            if case.transport == "tasks":
                yield TaskSession(me.rank, me.world, sharded=is_sharded(case), asks=asks)
                return
            with process_group(case, me, "gloo", DdpOptions(), PlacedSession) as joined:
                cast(PlacedSession, joined).asks = asks
                yield joined

    def role(self, name: str) -> Callable[[Case, Identity, Path], None] | None:
        return {"scheduler": scheduler, "worker": worker, "driver": driver}.get(name)


BACKEND = Dask()
