"""Which workers of a Dask cluster hold which ranks, decided by what the workers report of themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bench.backends.dask.backend import BACKEND
from bench.core.bounds import Count
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts
from bench.host.machine import read_node_facts
from bench.host.running_code import sources_digest

PROCESS_FAULTS = ("kill", "stop", "oom", "exit")
"""Kinds of faults that hit a whole process."""
MUST_MATCH = ("python", "dask", "distributed")
"""What must have the same version on both sides, so that one can read what the other sends."""
SOURCE_DIGEST = sources_digest()
"""Digest of this package's sources, read when this process began: the files may have changed since."""


class DaskWorkerInfo(FrozenModel):
    """What a worker of a cluster reports of itself."""

    address: str
    threads: int
    package: str
    """Its :data:`SOURCE_DIGEST`."""
    facts: NodeFacts
    pid: Count | None = None

    @property
    def label(self) -> str:
        return f"{self.address} on {self.facts.host}"


class UnsuitableCluster(Exception):
    """The cluster can't hold the ranks. The text says why, in one line."""


Assignment = tuple[tuple[DaskWorkerInfo, ...], ...]
"""For each node of a case, the workers that hold its ranks."""


def ranks_in_workers(case: Case) -> bool:
    """Whether ranks run in threads of the cluster's workers, and not in processes beside them (pure)."""
    return case.transport == "tasks"


def unsuitable_reason(case: Case) -> str | None:
    """Why no Dask cluster that exists can run the case, with the remedy, or ``None`` (pure)."""
    if case.backend != BACKEND.name:
        return f"a Dask cluster runs the {BACKEND.name} backend only: --backends {BACKEND.name}, or another --site"
    if ranks_in_workers(case) and case.fault is not None and case.fault.kind in PROCESS_FAULTS:
        return f"{case.fault.kind} would hit the cluster's own worker: --set {BACKEND.name}.transport=gloo"
    if ranks_in_workers(case) and case.env:
        return (
            f"{', '.join(case.env)} (--env): the cluster's workers, in which ranks run, have their variables already: "
            f"--set {BACKEND.name}.transport=gloo"
        )
    return None


def planned_tasks(case: Case) -> list[dict[str, Any]]:
    """The tasks that hold the case's ranks: the function that each calls, and the number of its host (pure)."""
    if ranks_in_workers(case):
        return [
            {"calls": "bench.dask_cluster.worker.run_rank", "host": rank // case.ranks_on_a_node}
            for rank in range(case.ranks)
        ]
    return [{"calls": "bench.dask_cluster.worker.run_node", "host": node} for node in range(case.nodes)]


def threads_needed(case: Case) -> int:
    """Threads of a worker that holds one rank: the rank's, and one in which an exchange waits (pure)."""
    return case.threads + 1


def assign(case: Case, worker_infos: Sequence[DaskWorkerInfo]) -> Assignment:
    """Assign the ranks of a case to workers, host by host in the order of their names (pure).

    Where ranks run in workers, each has a worker of its own with :func:`threads_needed`. Where they are processes
    beside the workers, a host holds as many as its workers' threads suffice for.

    Returns:
        As many groups of workers as the case has nodes, each group on one host.

    Raises:
        UnsuitableCluster: Too few hosts have the workers and threads that a node needs.
    """
    hosts: dict[tuple[str, str | None], list[DaskWorkerInfo]] = {}
    for worker in sorted(worker_infos, key=lambda candidate: (candidate.facts.host, candidate.address)):
        hosts.setdefault(worker.facts.host_and_boot, []).append(worker)
    nodes = [node_workers for on_host in hosts.values() if (node_workers := _workers_for_node(on_host, case))]
    if len(nodes) < case.nodes:
        raise UnsuitableCluster(f"{_describe_need(case)}; {_describe_hosts(list(hosts.values()))}")
    return tuple(nodes[: case.nodes])


def _workers_for_node(on_host: Sequence[DaskWorkerInfo], case: Case) -> tuple[DaskWorkerInfo, ...]:
    """The workers of a host that hold a node's ranks; empty where they do not suffice."""
    ranks = case.ranks_on_a_node
    if ranks_in_workers(case):
        suitable = [worker for worker in on_host if worker.threads >= threads_needed(case)]
        return tuple(suitable[:ranks]) if len(suitable) >= ranks else ()
    selected: list[DaskWorkerInfo] = []
    for worker in on_host:
        selected.append(worker)
        enough = sum(candidate.threads for candidate in selected) >= ranks * case.threads
        if enough and len(selected) >= min(ranks, len(on_host)):
            return tuple(selected)
    return ()


def _describe_need(case: Case) -> str:
    hosts = f"{case.nodes} host{'s' if case.nodes > 1 else ''}"
    ranks = case.ranks_on_a_node
    if ranks_in_workers(case):
        workers = f"{ranks} worker{'s' if ranks > 1 else ''}"
        return f"{case.ranks} ranks by tasks take {hosts} with {workers} of {threads_needed(case)} threads"
    threads = ranks * case.threads
    return f"{case.ranks} ranks take {hosts} whose workers have {threads} thread{'s' if threads > 1 else ''}"


def _describe_hosts(hosts: Sequence[Sequence[DaskWorkerInfo]]) -> str:
    if not hosts:
        return "the cluster has no workers"
    host_texts = [
        f"{workers[0].facts.host} ({', '.join(str(worker.threads) for worker in workers)} threads)" for workers in hosts
    ]
    return "the cluster has workers on " + ", ".join(host_texts)


def find_mismatch(
    here: DaskWorkerInfo, scheduler: Mapping[str, str | None], worker_infos: Sequence[DaskWorkerInfo]
) -> str | None:
    """What differs between the cluster and this machine, in one line, or ``None`` (pure).

    Args:
        here: This process, described as if it were a worker.
        scheduler: Versions of the scheduler's packages by name; ``None``: not installed.
        worker_infos: The cluster's workers.
    """
    versions = matched_versions(here.facts)
    for name, there in scheduler.items():
        if name in versions and there != versions[name]:
            return f"the scheduler has {_with_version(name, there)}, here it is {versions[name]}: install the same"
    for worker in worker_infos:
        for name, there in matched_versions(worker.facts).items():
            if there != versions[name]:
                named = _with_version(name, there)
                return f"worker {worker.label} has {named}, here it is {versions[name]}: install the same"
        if "torch" not in worker.facts.packages:
            return f"worker {worker.label} has no torch: pip install torch there"
        if worker.package != here.package:
            return (
                f"worker {worker.label} has other sources of this package ({worker.package}, here {here.package}): "
                "install the same and restart it"
            )
    return None


def matched_versions(facts: NodeFacts) -> dict[str, str | None]:
    """The versions of :data:`MUST_MATCH`, Python's without its patch level; ``None``: not installed."""
    versions = {**facts.packages, "python": minor_version(facts.python)}
    return {name: versions.get(name) for name in MUST_MATCH}


def _with_version(name: str, version: str | None) -> str:
    return f"{name} {version}" if version else f"no {name}"


def minor_version(python: str) -> str:
    """``3.11.7`` → ``3.11``."""
    return ".".join(python.split(".")[:2])


def read_worker_infos(client: Any) -> list[DaskWorkerInfo]:
    """Ask every worker of a client's cluster to describe itself. Raises :class:`UnsuitableCluster` where one can't."""
    worker_infos = []
    for address, answer in client.run(describe_worker, on_error="return").items():
        if not isinstance(answer, str):
            raise UnsuitableCluster(f"worker {address} can't load this package ({answer}): install it there")
        worker_infos.append(DaskWorkerInfo.model_validate_json(answer))
    return worker_infos


def describe_worker(dask_worker: Any) -> str:
    """Run by a worker: its :class:`DaskWorkerInfo` as JSON text. Dask passes the worker by the argument's name."""
    return DaskWorkerInfo(
        address=dask_worker.address,
        threads=dask_worker.state.nthreads,
        package=SOURCE_DIGEST,
        facts=read_node_facts(0),
        pid=os.getpid(),
    ).model_dump_json()
