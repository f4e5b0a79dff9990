"""Describe a Dask cluster that is running, or keep one of Slurm jobs.

    python -m bench.dask_cluster.cluster survey < cluster.json     describe its workers, or say why it can't be used
    python -m bench.dask_cluster.cluster keep < jobs.json          start a cluster and keep it until standard input ends
    python -m bench.dask_cluster.cluster script < jobs.json        print the job script, and submit nothing

Standard input begins with one line of JSON: a :class:`SchedulerAddress`, or a :class:`JobQueueSpec`. ``survey`` prints
a :class:`ClusterInfo` as one line of JSON, ``keep`` a :class:`ClusterStartResult`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.backends.dask.backend import DASK_CONFIG, HTTP_ADDRESS
from bench.backends.dask.cluster_ref import TLS_PREFIX, SchedulerAddress, Tls, make_security, one_file_tls
from bench.core.frozen_model import FrozenModel
from bench.dask_cluster.assignment import (
    SOURCE_DIGEST,
    DaskWorkerInfo,
    UnsuitableCluster,
    find_mismatch,
    minor_version,
    read_worker_infos,
)
from bench.dask_cluster.client import SchedulerUnreachable, connect, refuse_pickles
from bench.host.certificate import CERTIFICATE_FILE, create_certificate, write_certificate
from bench.host.machine import read_node_facts
from bench.host.network import DOCUMENTATION_ADDRESS, InterfaceError, select_interface
from bench.node.control import HarnessDisconnected, NodeControl

POLL_INTERVAL_S = 0.1
WORKER_MEMORY = "1GiB"
PRINT_JOB_SCRIPT = "python -m bench.dask_cluster.cluster script"
"""Prints the job script of a :class:`JobQueueSpec` that it reads from standard input."""
PATH_PATTERN = r"^[A-Za-z0-9_./~][A-Za-z0-9_./~+@-]*$"
"""Paths that a job script may hold: dask-jobqueue quotes none."""
DRY_RUN_CERTIFICATE = f"FOLDER/{CERTIFICATE_FILE}"
"""Where the job script that is only printed has the cluster's certificate."""


class ClusterInfo(FrozenModel):
    """A cluster that is running."""

    problem: str | None = None
    """Why it can't be used, in one line."""
    worker_infos: tuple[DaskWorkerInfo, ...] = ()


class JobQueueSpec(FrozenModel):
    """A cluster as jobs of a queueing system: ``count`` jobs, each a host with ``workers`` workers."""

    count: int
    workers: int
    threads: int
    """Threads of a worker."""
    cores: int
    """Cores that a job reserves."""
    queue: str | None = None
    account: str | None = None
    walltime: str
    memory: str
    """As Slurm writes it; ``0``: all that the host has."""
    directives: tuple[str, ...] = ()
    interface: str | None = None
    python: str
    logs: str | None = None
    """Folder for the jobs' output."""
    tls: Tls | None = None
    """Certificates of the user's; ``None``: the cluster gets one that is gone with it."""
    start_s: float
    """How long the jobs may wait in the queue, in seconds."""


class ClusterStartResult(FrozenModel):
    """The scheduler's address of a cluster that was started, or why it was not."""

    address: str = ""
    tls: Tls | None = None
    problem: str | None = None


def slurm_cluster_arguments(jobs: JobQueueSpec) -> dict[str, Any]:
    """The arguments of dask-jobqueue's ``SLURMCluster`` that describe a job (pure)."""
    return {
        "queue": jobs.queue,
        "account": jobs.account,
        "walltime": jobs.walltime,
        "job_cpu": jobs.cores,
        "job_mem": jobs.memory,
        "job_extra_directives": list(jobs.directives),
        "cores": jobs.workers * jobs.threads,
        "processes": jobs.workers,
        # The argument is required. Workers have no limit: the memory of ranks is not Dask's data.
        "memory": WORKER_MEMORY,
        "worker_extra_args": ["--memory-limit", "0", "--no-dashboard", "--dashboard-address", HTTP_ADDRESS],
        # Workers read no other configuration of ours.
        "job_script_prologue": [f"export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES={shlex.quote('[]')}"],
        "interface": jobs.interface,
        "python": shlex.quote(jobs.python),
        "log_directory": jobs.logs,
        "protocol": TLS_PREFIX,
    }


def inspect_cluster(cluster: SchedulerAddress) -> ClusterInfo:
    """Describe a running cluster. From then on this process refuses pickles from the network."""
    refuse_pickles()
    try:
        with connect(cluster) as client:
            scheduler_versions = client.get_versions(check=False)["scheduler"]["packages"]
            worker_infos = read_worker_infos(client)
    except (SchedulerUnreachable, UnsuitableCluster) as problem:
        return ClusterInfo(problem=str(problem))
    here = DaskWorkerInfo(address="here", threads=0, package=SOURCE_DIGEST, facts=read_node_facts(0))
    scheduler = {**scheduler_versions, "python": minor_version(scheduler_versions["python"])}
    return ClusterInfo(problem=find_mismatch(here, scheduler, worker_infos), worker_infos=tuple(worker_infos))


def job_script(jobs: JobQueueSpec) -> str:
    """The job script that dask-jobqueue makes of the jobs, for a scheduler of the name ``SCHEDULER``."""
    from dask_jobqueue.slurm import SLURMJob

    security = make_security(jobs.tls or one_file_tls(DRY_RUN_CERTIFICATE))
    arguments = {**slurm_cluster_arguments(jobs), "log_directory": None, "security": security}
    text: str = SLURMJob(scheduler="SCHEDULER", name="NAME", **arguments).job_script()
    return text


@contextmanager
def cluster_certificate(jobs: JobQueueSpec) -> Iterator[Tls]:
    """The certificates of the cluster: the user's, or one that is made for it, which nobody else can read.

    The nodes share the folder of the jobs' output, or the user's home folder, with this machine.

    Raises:
        UnsuitableCluster: The path of that folder can't be in a job script.
    """
    if jobs.tls is not None:
        yield jobs.tls
        return
    parent = Path(jobs.logs) if jobs.logs else Path.home()
    if not re.fullmatch(PATH_PATTERN, str(parent)):
        raise UnsuitableCluster(
            f"the path {parent} of the cluster's certificate can't be in a job script: run in a folder without blanks, "
            "or name certificates by dask.tls_ca, dask.tls_cert and dask.tls_key"
        )
    with tempfile.TemporaryDirectory(prefix=".certificate-", dir=parent) as folder:
        yield one_file_tls(str(write_certificate(create_certificate(), Path(folder))))


async def run_cluster(jobs: JobQueueSpec, tls: Tls, control: NodeControl) -> None:
    """Start the cluster and print its address; end it when asked to, or when the harness is gone.

    Raises :class:`bench.node.control.HarnessDisconnected`.
    """
    from dask_jobqueue import SLURMCluster

    host_interface = select_interface(DOCUMENTATION_ADDRESS, jobs.count, jobs.interface)
    cluster = SLURMCluster(
        asynchronous=True,
        security=make_security(tls),
        **slurm_cluster_arguments(jobs),
        scheduler_options={"host": host_interface.address, "dashboard": False, "dashboard_address": HTTP_ADDRESS},
    )
    async with cluster:
        cluster.scale(jobs=jobs.count)
        # Submits the jobs; an error of the queueing system is raised here.
        await cluster
        expected_workers, deadline = jobs.count * jobs.workers, time.monotonic() + jobs.start_s
        while (present_workers := len(cluster.scheduler.workers)) < expected_workers:
            if control.stop_requested():
                return
            if time.monotonic() > deadline:
                print_json(
                    ClusterStartResult(
                        problem=(
                            f"{present_workers} of {expected_workers} Dask "
                            f"workers came within {jobs.start_s:g} s; see squeue"
                        )
                    )
                )
                return
            await asyncio.sleep(POLL_INTERVAL_S)
        print_json(ClusterStartResult(address=cluster.scheduler_address, tls=tls))
        while not control.stop_requested():
            await asyncio.sleep(POLL_INTERVAL_S)


def print_json(value: FrozenModel) -> None:
    print(value.model_dump_json(), flush=True)


def run_cluster_until_stopped(jobs: JobQueueSpec, control: NodeControl) -> int:
    """:func:`run_cluster`; prints a :class:`ClusterStartResult` where it fails, and returns the exit status."""
    import dask

    try:
        with dask.config.set(DASK_CONFIG), cluster_certificate(jobs) as tls:
            asyncio.run(run_cluster(jobs, tls, control))
    except HarnessDisconnected:
        return 0
    except UnsuitableCluster as problem:
        print_json(ClusterStartResult(problem=str(problem)))
    except InterfaceError as problem:
        print_json(ClusterStartResult(problem=f"{problem}: --set dask.interface=NAME"))
    except Exception as problem:
        traceback.print_exc()
        print_json(ClusterStartResult(problem=f"no Dask cluster could be started: {_error_line(problem)}"))
    return 0


def _error_line(problem: BaseException) -> str:
    """The first line of the queueing system's error message, or of the exception's."""
    # Closing what was never open raises another exception.
    while problem.__context__ is not None:
        problem = problem.__context__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    message_lines = lines[lines.index("stderr:") + 1 :] if "stderr:" in lines else lines
    return message_lines[0] if message_lines else type(problem).__name__


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.dask_cluster.cluster", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("command", choices=("survey", "keep", "script"), help="each reads a line of JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    control = NodeControl(listen=True)
    try:
        request = control.read_first_line()
    except HarnessDisconnected:
        return 1
    if chosen.command == "survey":
        print_json(inspect_cluster(SchedulerAddress.model_validate(request)))
        return 0
    jobs = JobQueueSpec.model_validate(request)
    if chosen.command == "keep":
        return run_cluster_until_stopped(jobs, control)
    print(job_script(jobs), end="", flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Dask's helper threads are not waited for: the answer is printed by now.
    os._exit(code)
