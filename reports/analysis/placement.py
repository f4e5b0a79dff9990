"""Where the ranks of a case are, and the nodes that its trials ran on: their hosts, cores and versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from bench.core.case import Case
from bench.core.machine import NodeFacts
from bench.core.records import Trial

Place = Literal["inside", "across", "both"]
"""``inside``: one node's ranks; ``across``: one rank a node; ``both``: several ranks on each of several nodes."""


class Placement(NamedTuple):
    """A number of ranks, and how many of them a full node holds; ``None``: all are on one node."""

    ranks: int
    ranks_per_node: int | None

    @property
    def nodes(self) -> int:
        """The number of nodes that hold the ranks."""
        return -(-self.ranks // self.ranks_per_node) if self.ranks_per_node else 1

    @property
    def place(self) -> Place:
        """Where the ranks exchange."""
        if self.nodes == 1:
            return "inside"
        return "across" if self.ranks_per_node == 1 else "both"


def placement_of(case: Case) -> Placement:
    """The placement of a case. Links between ranks make each rank a node, unless the ranks per node were given."""
    return Placement(case.ranks, case.ranks_per_node or (1 if case.net else None))


def place_of(case: Case) -> Place:
    """Where the ranks of a case exchange."""
    return placement_of(case).place


def curve_family(case: Case) -> str:
    """The key of a curve without its ranks per node: cases of one family may be compared packed and spread."""
    return case.model_copy(update={"ranks_per_node": None}).curve


def hosts_of(trials: Iterable[Trial]) -> tuple[NodeFacts, ...]:
    """The hosts of the trials, each once in each of its states, in the order of its first trial."""
    anywhere = {"node": 0, "core_numbers": ()}
    return distinct_hosts(facts.model_copy(update=anywhere) for trial in trials for facts in trial.nodes)


def distinct_hosts(hosts: Iterable[NodeFacts]) -> tuple[NodeFacts, ...]:
    """The hosts without duplicates, in their order."""
    return tuple({facts.model_dump_json(): facts for facts in hosts}.values())


def exceeds_cores(case: Case, trials: Iterable[Trial]) -> bool:
    """Whether the ranks had more threads than a node or a machine had cores.

    Beyond this machine that is known only after the trials: the nodes of a job may be one machine.
    """
    return any(cores_exceeded_on(case, trial.nodes) for trial in trials)


def cores_exceeded_on(case: Case, nodes: Sequence[NodeFacts]) -> bool:
    """:func:`exceeds_cores` of one trial, by the nodes that it ran on."""
    if case.device != "cpu" or "emulated_compute" in case.flags:
        return False
    placement = placement_of(case)
    machines: dict[str, list[NodeFacts]] = {}
    for facts in nodes:
        machines.setdefault(facts.boot_id or facts.host, []).append(facts)
    return any(_too_many_threads(case, placement, on_machine) for on_machine in machines.values())


def share_a_gpu(trial: Trial) -> bool:
    """Whether several ranks of a trial computed on one GPU, or on one slice of it."""
    gpus = [rank.gpu for rank in trial.ranks if rank.gpu is not None]
    return len(set(gpus)) < len(gpus)


def _too_many_threads(case: Case, placement: Placement, nodes: Sequence[NodeFacts]) -> bool:
    """Whether one of the nodes on a machine, or all of them together, have more threads than cores."""
    width = placement.ranks_per_node or placement.ranks
    threads = [case.threads * max(0, min(placement.ranks - facts.node * width, width)) for facts in nodes]
    on_a_node = any(own > facts.cores for own, facts in zip(threads, nodes, strict=True))
    return on_a_node or sum(threads) > _cores_of(nodes)


def _cores_of(nodes: Sequence[NodeFacts]) -> int:
    """The cores of a machine that several nodes may use together: containers may have cores of their own."""
    if all(facts.core_numbers for facts in nodes):
        return len({number for facts in nodes for number in facts.core_numbers})
    return max(facts.cores for facts in nodes)


def version_differences(hosts: Sequence[NodeFacts], here: Mapping[str, str]) -> list[str]:
    """A line for each version that differs between the nodes, or between them and the machine that runs the harness.

    A package that one side does not have is reported too.

    Args:
        hosts: the nodes.
        here: the versions on the machine that runs the harness, by name.
    """
    if not hosts:
        return []
    host_versions = [(facts.host, {"Python": facts.python, **facts.packages}) for facts in hosts]
    lines = []
    for name in dict.fromkeys(name for _, versions in (*host_versions, ("", here)) for name in versions):
        by_version: dict[str, list[str]] = {}
        for host, versions in host_versions:
            by_version.setdefault(versions.get(name, "none"), []).append(host)
        among = len(by_version) > 1
        if among or set(by_version) != {here.get(name, "none")}:
            by_version.setdefault(here.get(name, "none"), []).append("the submitting machine")
            versions_text = "; ".join(
                f"{version} on {_named(host_names)}" for version, host_names in by_version.items()
            )
            lines.append(f"{name} differs between machines: {versions_text}")
    return lines


def _named(hosts: Sequence[str], most: int = 4) -> str:
    names = list(dict.fromkeys(hosts))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
