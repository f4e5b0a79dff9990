"""A Dask cluster that exists: a scheduler and two workers, started by their own commands on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.backends.dask import exchange
from bench.backends.dask.cluster_ref import SchedulerAddress
from bench.core.machine import NodeFacts
from bench.dask_cluster import worker
from bench.dask_cluster.assignment import DaskWorkerInfo
from bench.host.network import free_port
from harness.sites.dask.processes import survey_cluster
from tests.support.paths import ROOT

START_TIMEOUT_S = 40
NOTHING = {"tasks": 0, "held": 0, "mailboxes": 0, "client": False, "processes": 0, "threads": []}


def worker_state(dask_worker) -> dict[str, Any]:
    """Run by a worker: what of a trial is still in it. Dask passes the worker by the argument's name."""
    return {
        "tasks": len(dask_worker.state.tasks),
        "held": len(worker._active_tasks),
        "mailboxes": len(exchange._mailboxes),
        "client": dask_worker._client is not None,
        "processes": len(psutil.Process().children()),
        "threads": [
            thread.name
            for thread in threading.enumerate()
            if "rank" in thread.name or "_release_when_unneeded" in thread.name
        ],
    }


def make_worker_info(
    host: str, port: int, threads: int = 2, package: str = "same", boot_id: str | None = None, **packages
) -> DaskWorkerInfo:
    """A worker as it describes itself, with these versions of packages besides the usual ones."""
    facts = NodeFacts(
        node=0,
        boot_id=boot_id,
        host=host,
        system="",
        cpu="",
        cores=2,
        memory_bytes=1,
        gpus=(),
        python="3.11.7",
        packages={"dask": "2026.8.0", "distributed": "2026.8.0", "torch": "2.13.0", **packages},
    )
    return DaskWorkerInfo(address=f"tcp://{host}:{port}", threads=threads, package=package, facts=facts)


class RunningCluster:
    """The processes of a cluster. ``env``: variables that they have besides this process's."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, {**os.environ, "PYTHONPATH": str(ROOT), **env}
        self.address = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("a") as log:
            program = "from dask.__main__ import main; main()"
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-c", program, *command], cwd=self.folder, env=self.env, stdout=log, stderr=log
            )

    def start_worker(self, name: str) -> None:
        self.start(
            name,
            "worker",
            self.address,
            "--host",
            "127.0.0.1",
            "--nthreads",
            "2",
            "--no-nanny",
            "--no-dashboard",
            "--name",
            name,
        )

    def workers(self) -> list[str]:
        """Addresses of those that are there."""
        return [worker.address for worker in survey_cluster(SchedulerAddress(address=self.address)).worker_infos]

    def ready(self, workers: int = 2) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(self.workers()) != workers:
            assert time.monotonic() < deadline, self.log_tail()
            time.sleep(0.1)

    def log_tail(self) -> str:
        return "\n".join(line for log in self.folder.glob("*.log") for line in log.read_text().splitlines()[-15:])

    def worker_states(self) -> dict[str, dict[str, Any]]:
        """By address: what of a trial is still in a worker."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            return client.run(worker_state)

    def nothing_left(self, within_s: float = 10.0) -> None:
        """Assert that soon no worker holds anything of a trial."""
        deadline = time.monotonic() + within_s
        states = self.worker_states()
        while any(state != NOTHING for state in states.values()):
            assert time.monotonic() < deadline, states
            states = self.worker_states()


@contextmanager
def running_cluster(folder: Path, env: Mapping[str, str] | None = None) -> Iterator[RunningCluster]:
    """A cluster whose two workers have joined; it ends with the context."""
    cluster = RunningCluster(folder, env or {})
    try:
        cluster.start(
            "scheduler",
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            cluster.address.rpartition(":")[2],
            "--no-dashboard",
        )
        for name in ("a", "b"):
            cluster.start_worker(name)
        cluster.ready()
        yield cluster
    finally:
        for process in cluster.processes.values():
            process.kill()
        for process in cluster.processes.values():
            process.wait()
