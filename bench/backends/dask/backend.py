"""The Dask backend: a scheduler, workers that hold the ranks, and a driver that submits the ranks to them.

``gloo``   torch.distributed averages the gradients of ranks that Dask placed.
``tasks``  gradients travel over Dask's connections from worker to worker, as messages or as the results of tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.backends.dask import local_sockets
from bench.backends.dask.cluster_ref import certificate_folder, connect_own_cluster, open_dask_context
from bench.backends.dask.options import DaskOptions, exchange_mode
from bench.backends.torch_distributed import PROCESS_GROUP_COLLECTIVES, join_torch_distributed
from bench.core.case import MAX_LIBRARY_TIMEOUT_S, Case, Role
from bench.core.collectives import Collective
from bench.core.rank_info import RankInfo, read_rank_info
from bench.host.network import bind_address, port_named, wait_for_listener
from bench.plugins.backend import Backend, Session

DASK_CONFIG = {
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.low-level-log-length": 0,
    "distributed.worker.daemon": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Dask's configuration in all processes of a trial: nothing runs beside the ranks, tasks stay where they are, and the
HTTP server that each scheduler and worker starts, without encryption even where they use TLS, has no pages."""
OWN_CLUSTER_CONFIG = {
    **DASK_CONFIG,
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": f"{MAX_LIBRARY_TIMEOUT_S}s",
    "distributed.comm.timeouts.tcp": "1d",
}
"""The same for the processes of a trial's own cluster: none gives up on another one before the trial's time limit, at
which the supervisor names the one that hangs."""
HTTP_ADDRESS = "127.0.0.1:0"
"""Where that HTTP server listens: it can't be turned off."""


def scheduler(case: Case, me: RankInfo, out: Path) -> None:
    """Run the scheduler at the rendezvous address until it is ended."""
    import asyncio

    import dask
    from distributed import Scheduler

    host = bind_address(me.rendezvous_host, me.own_host)
    protocol, security = connect_own_cluster(case)

    async def serve() -> None:
        async with Scheduler(
            protocol=protocol,
            host=host,
            port=me.rendezvous_port,
            security=security,
            dashboard=False,
            dashboard_address=HTTP_ADDRESS,
        ) as running:
            await running.finished()

    with dask.config.set(OWN_CLUSTER_CONFIG), port_named(host, me.rendezvous_port):
        try:
            asyncio.run(serve())
        except RuntimeError as problem:
            # Dask only says that its scheduler failed to start.
            if isinstance(problem.__cause__, OSError):
                raise problem.__cause__ from None
            raise


def worker(case: Case, me: RankInfo, out: Path) -> None:
    """Run the worker of one rank: as many threads as the rank has, and one for the exchange tasks."""
    import asyncio

    import dask
    from distributed import Worker

    protocol, security = connect_own_cluster(case)

    async def serve() -> None:
        async with Worker(
            f"{protocol}{me.rendezvous_host}:{me.rendezvous_port}",
            name=me.rank,
            protocol=protocol,
            security=security,
            host=me.own_host or me.rendezvous_host,
            nthreads=case.threads + (case.transport == "tasks"),
            memory_limit=0,
            local_directory=str(out),
            dashboard=False,
            dashboard_address=HTTP_ADDRESS,
        ) as running:
            await running.finished()

    with dask.config.set(OWN_CLUSTER_CONFIG):
        asyncio.run(serve())


def driver(case: Case, me: RankInfo, out: Path) -> None:
    """Submit the ranks to the workers and wait until all are done, or one has failed."""
    import dask
    from distributed import Client

    from bench.backends.dask.rank_tasks import RankTasks

    protocol, security = connect_own_cluster(case)
    if protocol == local_sockets.PREFIX:
        local_sockets.wait_for_socket(certificate_folder(), me.rendezvous_port, case.timeout_s)
    else:
        wait_for_listener(me.rendezvous_host, me.rendezvous_port, case.timeout_s)
    address = f"{protocol}{me.rendezvous_host}:{me.rendezvous_port}"
    with (
        dask.config.set(OWN_CLUSTER_CONFIG),
        Client(address, security=security, timeout=case.library_timeout_s) as client,
    ):
        client.wait_for_workers(case.ranks, timeout=case.library_timeout_s)
        worker_infos = client.scheduler_info(n_workers=-1)["workers"]
        # A worker is named after the rank whose cores it has.
        addresses = [
            address for _, address in sorted((info["name"], address) for address, info in worker_infos.items())
        ]
        tasks = RankTasks(client, case)
        try:
            tasks.submit(run_rank, addresses, folder=out)
            if case.transport == "tasks":
                tasks.submit_exchange(addresses, exchange_mode(case))
            tasks.watch(lambda: tasks.failed)
        finally:
            tasks.cancel()
        if tasks.exchange_problem is not None:
            raise tasks.exchange_problem
        if tasks.failed:
            # The other ranks wait in vain for the one that failed.
            raise SystemExit(1)


def run_rank(text: str) -> bool:
    """A task: run one rank in a thread of the worker that was started for it; returns whether it did not fail.

    The thread leaves the worker's pool, so that the pool's threads serve the exchange.
    """
    import distributed

    from bench.backends.dask.rank_tasks import RankTask, measure_in_thread

    rank_task = RankTask.model_validate_json(text)
    assert rank_task.folder is not None
    distributed.secede()
    # Its place on the machine is that of the worker.
    me = replace(
        read_rank_info(os.environ),
        rank=rank_task.number,
        world=rank_task.case.ranks,
        rendezvous_host=rank_task.rendezvous_host,
        rendezvous_port=rank_task.rendezvous_port,
        own_host=urlsplit(distributed.get_worker().address).hostname or "",
    )
    return measure_in_thread(rank_task, me, Path(rank_task.folder))


class Dask(Backend):
    """Ranks in Dask workers. A site that has a Dask cluster of its own starts the ranks alone."""

    name = "dask"
    summary = "ranks inside Dask workers, gradients through Dask's tasks or through gloo"
    requires = ("torch", "dask", "distributed", "cryptography")
    packages = ("torch", "dask", "distributed")
    transports = {"cpu": ("tasks", "gloo"), "cuda": ("gloo",)}  # noqa: RUF012 - declared read-only by the contract
    unsupported_options = {  # noqa: RUF012 - declared read-only by the contract
        "cuda_graph": "gradients are exchanged in the host's memory, which a graph of the device can't hold"
    }
    preload = ("distributed", "dask.array")
    options = DaskOptions
    machinery = {  # noqa: RUF012 - declared read-only by the contract
        "array": "dask.array makes the chunks and the mean through its own task graph, one partial mean a chunk"
    }

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (
            Role(name="scheduler", count=1, service=True, certified=True),
            Role(name="worker", count=case.ranks, service=True, certified=True),
            Role(name="driver", count=1, certified=True),
            Role(name="rank", count=case.ranks, started_by="driver"),
        )

    def collectives(self, case: Case) -> Mapping[Collective, tuple[bool, ...] | str]:
        if case.transport == "gloo":
            return PROCESS_GROUP_COLLECTIVES
        sends_all = "Dask's exchange sends the whole array of each rank to all ranks"
        sums = "Dask's exchange in shards only sums: --set dask.exchange=direct"
        return {
            "all_reduce": (False,),
            "all_gather": sums if exchange_mode(case) == "sharded" else (False,),
            **dict.fromkeys(("reduce_scatter", "all_to_all", "broadcast", "send_recv"), sends_all),
        }

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        from bench.backends.dask.sessions import DaskGlooSession, DaskTaskSession, open_streams
        from bench.backends.ddp import DdpOptions, named_unused_parameters

        find_unused = DaskOptions(**case.backend_options).find_unused_parameters

        with open_dask_context(case, me) as dask_context:
            if case.transport == "tasks":
                mode = exchange_mode(case)
                with open_streams(me, dask_context) if mode == "stream" else nullcontext() as streams:
                    yield DaskTaskSession(me.rank, me.world, mode, dask_context, streams)
                return

            def make_session(rank: int, world: int, device: str) -> DaskGlooSession:
                options = DdpOptions(find_unused_parameters=find_unused)
                return DaskGlooSession(rank, world, device, options, dask_context)

            with (
                join_torch_distributed(case, me, "gloo", make_session) as gloo_session,
                named_unused_parameters(DaskGlooSession.unused_option),
            ):
                yield gloo_session

    def role(self, name: str) -> Callable[[Case, RankInfo, Path], None] | None:
        return {"scheduler": scheduler, "worker": worker, "driver": driver}.get(name)


BACKEND = Dask()
