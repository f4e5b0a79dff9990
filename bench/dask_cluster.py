"""Dask clusters as the harness meets them: ask one that runs what it is, or start one as Slurm jobs and end it.

    python -m bench.dask_cluster survey < cluster.json     what its workers are, or why it can't be used
    python -m bench.dask_cluster keep < jobs.json          start one, say where it is, end it with standard input
    python -m bench.dask_cluster script < jobs.json        the job script that it would submit

Each answers with one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from bench.backends.dask import QUIET
from bench.dask_client import Cluster, Tls, Unreachable, connect, read_offers, refuse_pickles, security_of
from bench.dask_places import PACKAGE, NoRoom, Offer, differing, minor
from bench.interfaces import ANYWHERE, NoInterface, own_interface
from bench.machine import read_facts
from bench.orders import HarnessHasGone, SystemOrders
from bench.value import Value

LOOK_AGAIN_S = 0.1
A_GIB = "1GiB"


class Survey(Value):
    """What a running cluster is."""

    problem: str | None = None
    offers: tuple[Offer, ...] = ()


class Jobs(Value):
    """A cluster as jobs of a queueing system: each job is a host of its own with ``workers`` workers."""

    count: int
    workers: int
    threads: int
    """Of a worker."""
    cores: int
    """That a job books."""
    queue: str | None = None
    account: str | None = None
    walltime: str
    memory: str
    """As Slurm is told; ``0``: all that the host has."""
    directives: tuple[str, ...] = ()
    interface: str | None = None
    python: str
    logs: str | None = None
    """Folder for the jobs' output."""
    tls: Tls | None = None
    start_s: float
    """How long the jobs may wait in the queue."""


class Started(Value):
    """Where a cluster was started, or why it was not."""

    address: str = ""
    problem: str | None = None


def job_arguments(jobs: Jobs) -> dict[str, Any]:
    """What dask-jobqueue's ``SLURMCluster`` is told of a job (pure)."""
    return {
        "queue": jobs.queue,
        "account": jobs.account,
        "walltime": jobs.walltime,
        "job_cpu": jobs.cores,
        "job_mem": jobs.memory,
        "job_extra_directives": list(jobs.directives),
        "cores": jobs.workers * jobs.threads,
        "processes": jobs.workers,
        # It must be told some memory. The workers watch none: ranks are not Dask's data.
        "memory": A_GIB,
        "worker_extra_args": ["--memory-limit", "0", "--no-dashboard"],
        "interface": jobs.interface,
        "python": shlex.quote(jobs.python),
        "log_directory": jobs.logs,
        "protocol": None if jobs.tls is None else "tls://",
    }


def survey(cluster: Cluster) -> Survey:
    refuse_pickles()
    try:
        with connect(cluster) as client:
            told = client.get_versions(check=False)["scheduler"]["packages"]
            offers = read_offers(client)
    except (Unreachable, NoRoom) as problem:
        return Survey(problem=str(problem))
    here = Offer(address="here", threads=0, package=PACKAGE, facts=read_facts(0))
    scheduler = {**told, "python": minor(told["python"])}
    return Survey(problem=differing(here, scheduler, offers), offers=tuple(offers))


def script(jobs: Jobs) -> str:
    """dask-jobqueue's own; nothing is submitted."""
    from dask_jobqueue.slurm import SLURMJob

    arguments = {**job_arguments(jobs), "log_directory": None, "security": security_of(jobs.tls)}
    found: str = SLURMJob(scheduler="SCHEDULER", name="NAME", **arguments).job_script()
    return found


async def keep(jobs: Jobs, orders: SystemOrders) -> None:
    """Start the cluster, say where it is, end it when told to or when the harness has gone."""
    from dask_jobqueue import SLURMCluster

    own = own_interface(ANYWHERE, jobs.count, jobs.interface)
    cluster = SLURMCluster(
        asynchronous=True, security=security_of(jobs.tls), **job_arguments(jobs),
        scheduler_options={"host": own.address, "dashboard": False, "dashboard_address": None},
    )  # fmt: skip
    async with cluster:
        cluster.scale(jobs=jobs.count)
        # It submits the jobs and raises what the queueing system says.
        await cluster
        wanted, deadline = jobs.count * jobs.workers, time.monotonic() + jobs.start_s
        while (there := len(cluster.scheduler.workers)) < wanted:
            if orders.heard():
                return
            if time.monotonic() > deadline:
                say(Started(problem=f"{there} of {wanted} Dask workers came within {jobs.start_s:g} s; see squeue"))
                return
            await asyncio.sleep(LOOK_AGAIN_S)
        say(Started(address=cluster.scheduler_address))
        while not orders.heard():
            await asyncio.sleep(LOOK_AGAIN_S)


def say(value: Value) -> None:
    print(value.model_dump_json(), flush=True)


def keep_until_told(jobs: Jobs, orders: SystemOrders) -> int:
    import dask

    try:
        with dask.config.set(QUIET):
            asyncio.run(keep(jobs, orders))
    except HarnessHasGone:
        return 0
    except NoInterface as problem:
        say(Started(problem=f"{problem}: --set dask.interface=NAME"))
    except Exception as problem:
        traceback.print_exc()
        say(Started(problem=f"no Dask cluster could be started: {_said_by(problem)}"))
    return 0


def _said_by(problem: BaseException) -> str:
    """In one line: what the queueing system's command said, where it was that."""
    # Closing what was never open fails too.
    while problem.__context__ is not None:
        problem = problem.__context__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    said = lines[lines.index("stderr:") + 1 :] if "stderr:" in lines else lines
    return said[0] if said else type(problem).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dask_cluster", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("survey", "keep", "script"))
    chosen = parser.parse_args(arguments)
    orders = SystemOrders(listen=True)
    try:
        asked = orders.first_line()
    except HarnessHasGone:
        return 1
    if chosen.what == "survey":
        say(survey(Cluster.model_validate(asked)))
        return 0
    jobs = Jobs.model_validate(asked)
    if chosen.what == "keep":
        return keep_until_told(jobs, orders)
    print(script(jobs), end="", flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Dask's helpers are not waited for: all that counts is said by now.
    os._exit(code)
