"""Which workers of a Dask cluster hold which ranks: pure functions over what the workers say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts
from bench.host.machine import read_node_facts
from bench.plugins.sources import sources_digest

MUST_MATCH = ("python", "dask", "distributed")
"""What must be alike for one side to read what the other sends."""


SOURCE_DIGEST = sources_digest()
"""Of this package's sources as this process found them: a kept worker may be older than what lies on its disk."""


class DaskWorkerInfo(FrozenModel):
    """A worker of the cluster as it described itself."""

    address: str
    threads: int
    package: str
    """:data:`SOURCE_DIGEST` in that worker."""
    facts: NodeFacts

    @property
    def label(self) -> str:
        return f"{self.address} on {self.facts.host}"


class UnsuitableCluster(Exception):
    """The cluster has no place for the ranks. The text says what it has."""


Assignment = tuple[tuple[DaskWorkerInfo, ...], ...]
"""For each node the workers that serve it."""


def threads_needed(case: Case) -> int:
    """Of one worker under ``tasks``: those of the rank, and one in which an exchange waits."""
    return case.threads + 1


def assign(case: Case, worker_infos: Sequence[DaskWorkerInfo]) -> Assignment:
    """Hosts in the order of their names, as many as the case has nodes (pure). Raises :class:`UnsuitableCluster`.

    ``tasks``: a worker a rank. ``gloo``: ranks are processes beside the workers; a host takes as many as the threads of
    its workers would.
    """
    hosts: dict[str, list[DaskWorkerInfo]] = {}
    for worker in sorted(worker_infos, key=lambda candidate: (candidate.facts.host, candidate.address)):
        hosts.setdefault(worker.facts.host, []).append(worker)
    found = [node_workers for mine in hosts.values() if (node_workers := _workers_for_node(mine, case))]
    if len(found) < case.nodes:
        raise UnsuitableCluster(f"{_describe_need(case)}; {_describe_cluster(hosts)}")
    return tuple(found[: case.nodes])


def _workers_for_node(mine: Sequence[DaskWorkerInfo], case: Case) -> tuple[DaskWorkerInfo, ...]:
    ranks = case.ranks_on_a_node
    if case.transport == "tasks":
        suitable = [worker for worker in mine if worker.threads >= threads_needed(case)]
        return tuple(suitable[:ranks]) if len(suitable) >= ranks else ()
    selected: list[DaskWorkerInfo] = []
    for worker in mine:
        selected.append(worker)
        enough = sum(candidate.threads for candidate in selected) >= ranks * case.threads
        if enough and len(selected) >= min(ranks, len(mine)):
            return tuple(selected)
    return ()


def _describe_need(case: Case) -> str:
    hosts = f"{case.nodes} host{'s' if case.nodes > 1 else ''}"
    ranks = case.ranks_on_a_node
    if case.transport == "tasks":
        workers = f"{ranks} worker{'s' if ranks > 1 else ''}"
        return f"{case.ranks} ranks by tasks take {hosts} with {workers} of {threads_needed(case)} threads"
    threads = ranks * case.threads
    return f"{case.ranks} ranks take {hosts} whose workers have {threads} thread{'s' if threads > 1 else ''}"


def _describe_cluster(hosts: Mapping[str, Sequence[DaskWorkerInfo]]) -> str:
    if not hosts:
        return "the cluster has no workers"
    host_texts = [
        f"{host} ({', '.join(str(candidate.threads) for candidate in mine)} threads)" for host, mine in hosts.items()
    ]
    return "the cluster has workers on " + ", ".join(host_texts)


def find_mismatch(
    here: DaskWorkerInfo, scheduler: Mapping[str, str | None], worker_infos: Sequence[DaskWorkerInfo]
) -> str | None:
    """What is not the same there as here, in one line, or ``None`` (pure)."""
    mine = matched_versions(here.facts)
    for name, there in scheduler.items():
        if name in mine and there != mine[name]:
            return f"the scheduler has {name} {there or 'not at all'}, here it is {mine[name]}: install the same"
    for worker in worker_infos:
        for name, version in matched_versions(worker.facts).items():
            if version != mine[name]:
                return f"worker {worker.label} has {name} {version}, here it is {mine[name]}: install the same"
        if "torch" not in worker.facts.packages:
            return f'worker {worker.label} has no torch: pip install "scaling-harness[frameworks]" there'
        if worker.package != here.package:
            return (
                f"worker {worker.label} has other sources of this package ({worker.package}, here {here.package}): "
                "install the same and restart it"
            )
    return None


def matched_versions(facts: NodeFacts) -> dict[str, str]:
    """Python's without its patch level."""
    found = {**facts.packages, "python": minor_version(facts.python)}
    return {name: found.get(name, "not at all") for name in MUST_MATCH}


def minor_version(python: str) -> str:
    """``3.11.7`` → ``3.11``."""
    return ".".join(python.split(".")[:2])


def read_worker_infos(client: Any) -> list[DaskWorkerInfo]:
    """Every worker as it describes itself. Raises :class:`UnsuitableCluster` where one can't."""

    found = []
    for address, answer in client.run(describe_worker, on_error="return").items():
        if not isinstance(answer, str):
            raise UnsuitableCluster(f"worker {address} can't load this package ({answer}): install it there")
        found.append(DaskWorkerInfo.model_validate_json(answer))
    return found


def worker_info_json(address: str, threads: int) -> str:
    """This worker, as the JSON text of an :class:`DaskWorkerInfo`."""
    return DaskWorkerInfo(
        address=address, threads=threads, package=SOURCE_DIGEST, facts=read_node_facts(0)
    ).model_dump_json()


def describe_worker(dask_worker: Any) -> str:
    return worker_info_json(dask_worker.address, dask_worker.state.nthreads)
