"""Which workers of a Dask cluster hold which ranks: pure functions over what the workers say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.case import Case
from bench.machine import NodeFacts
from bench.sources import digest
from bench.value import Value

SAME = ("python", "dask", "distributed")
"""What must be alike for one side to read what the other sends."""


PACKAGE = digest()
"""Of this package's sources as this process found them: a kept worker may be older than what lies on its disk."""


class Offer(Value):
    """A worker of the cluster as it described itself."""

    address: str
    threads: int
    package: str
    """:data:`PACKAGE` in that worker."""
    facts: NodeFacts

    @property
    def place(self) -> str:
        return f"{self.address} on {self.facts.host}"


class NoRoom(Exception):
    """The cluster has no place for the ranks. The text says what it has."""


Seats = tuple[tuple[Offer, ...], ...]
"""For each node the workers that serve it."""


def threads_needed(case: Case) -> int:
    """Of one worker under ``tasks``: those of the rank, and one in which an exchange waits."""
    return case.threads + 1


def seat(case: Case, offers: Sequence[Offer]) -> Seats:
    """Hosts in the order of their names, as many as the case has nodes (pure). Raises :class:`NoRoom`.

    ``tasks``: a worker a rank. ``gloo``: ranks are processes beside the workers; a host takes as many as the threads of
    its workers would.
    """
    hosts: dict[str, list[Offer]] = {}
    for offer in sorted(offers, key=lambda one: (one.facts.host, one.address)):
        hosts.setdefault(offer.facts.host, []).append(offer)
    found = [seats for mine in hosts.values() if (seats := _seats_on(mine, case))]
    if len(found) < case.nodes:
        raise NoRoom(f"{_wanted(case)}; {_there_is(hosts)}")
    return tuple(found[: case.nodes])


def _seats_on(mine: Sequence[Offer], case: Case) -> tuple[Offer, ...]:
    ranks = case.ranks_on_a_node
    if case.transport == "tasks":
        fit = [offer for offer in mine if offer.threads >= threads_needed(case)]
        return tuple(fit[:ranks]) if len(fit) >= ranks else ()
    taken: list[Offer] = []
    for offer in mine:
        taken.append(offer)
        enough = sum(one.threads for one in taken) >= ranks * case.threads
        if enough and len(taken) >= min(ranks, len(mine)):
            return tuple(taken)
    return ()


def _wanted(case: Case) -> str:
    hosts = f"{case.nodes} host{'s' if case.nodes > 1 else ''}"
    ranks = case.ranks_on_a_node
    if case.transport == "tasks":
        workers = f"{ranks} worker{'s' if ranks > 1 else ''}"
        return f"{case.ranks} ranks by tasks take {hosts} with {workers} of {threads_needed(case)} threads"
    threads = ranks * case.threads
    return f"{case.ranks} ranks take {hosts} whose workers have {threads} thread{'s' if threads > 1 else ''}"


def _there_is(hosts: Mapping[str, Sequence[Offer]]) -> str:
    if not hosts:
        return "the cluster has no workers"
    told = [f"{host} ({', '.join(str(one.threads) for one in mine)} threads)" for host, mine in hosts.items()]
    return "the cluster has workers on " + ", ".join(told)


def differing(here: Offer, scheduler: Mapping[str, str | None], offers: Sequence[Offer]) -> str | None:
    """What is not the same there as here, in one line, or ``None`` (pure)."""
    mine = versions_of(here.facts)
    for name, there in scheduler.items():
        if name in mine and there != mine[name]:
            return f"the scheduler has {name} {there or 'not at all'}, here it is {mine[name]}: install the same"
    for offer in offers:
        for name, version in versions_of(offer.facts).items():
            if version != mine[name]:
                return f"worker {offer.place} has {name} {version}, here it is {mine[name]}: install the same"
        if "torch" not in offer.facts.packages:
            return f'worker {offer.place} has no torch: pip install "scaling-harness[frameworks]" there'
        if offer.package != here.package:
            return (f"worker {offer.place} has other sources of this package ({offer.package}, here {here.package}): "
                    "install the same and restart it")  # fmt: skip
    return None


def versions_of(facts: NodeFacts) -> dict[str, str]:
    """Python's without its patch level."""
    found = {**facts.packages, "python": minor(facts.python)}
    return {name: found.get(name, "not at all") for name in SAME}


def minor(python: str) -> str:
    """``3.11.7`` → ``3.11``."""
    return ".".join(python.split(".")[:2])
