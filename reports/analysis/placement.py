"""Where the ranks of a case are: how many a node holds, and whether what they exchange stays inside one.

The nodes that trials ran on, as they described themselves: what they offered, and where their versions differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from bench.core.case import Case
from bench.core.machine import NodeFacts
from bench.core.records import Trial

Place = Literal["inside", "across", "both"]
"""``inside``: one node's ranks; ``across``: one rank a node; ``both``: several ranks on each of several nodes."""


class Placement(NamedTuple):
    """A number of ranks, and how many of them a full node holds; ``None``: all are on one."""

    ranks: int
    ranks_per_node: int | None

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.ranks_per_node) if self.ranks_per_node else 1

    @property
    def place(self) -> Place:
        if self.nodes == 1:
            return "inside"
        return "across" if self.ranks_per_node == 1 else "both"


def placement_of(case: Case) -> Placement:
    """Links between ranks make each of them a node, unless it was said how many share one."""
    return Placement(case.ranks, case.ranks_per_node or (1 if case.net else None))


def place_of(case: Case) -> Place:
    return placement_of(case).place


def curve_family(case: Case) -> str:
    """The key of a curve without how many ranks a node holds: what may be compared packed and spread."""
    return case.model_copy(update={"ranks_per_node": None}).curve


def hosts_of(trials: Iterable[Trial]) -> tuple[NodeFacts, ...]:
    """Each host once in each of its states, in the order of its first trial."""
    return distinct_hosts(facts.model_copy(update={"node": 0}) for trial in trials for facts in trial.nodes)


def distinct_hosts(hosts: Iterable[NodeFacts]) -> tuple[NodeFacts, ...]:
    """Those that differ, in their order."""
    return tuple({facts.model_dump_json(): facts for facts in hosts}.values())


def exceeds_cores(case: Case, trials: Iterable[Trial]) -> bool:
    """Whether somewhere the ranks had more threads than their host had cores: beyond this machine nobody knows before.

    Nodes may turn out to be one host.
    """
    if case.device != "cpu" or "emulated_compute" in case.flags:
        return False
    placement = placement_of(case)
    for trial in trials:
        ranks: dict[str, int] = {}
        for facts in trial.nodes:
            first = facts.node * (placement.ranks_per_node or placement.ranks)
            here = min(placement.ranks - first, placement.ranks_per_node or placement.ranks)
            ranks[facts.host] = ranks.get(facts.host, 0) + max(0, here)
        if any(ranks[facts.host] * case.threads > facts.cores for facts in trial.nodes):
            return True
    return False


def version_differences(hosts: Sequence[NodeFacts], here: Mapping[str, str]) -> list[str]:
    """A sentence for each version that is not the same everywhere; ``here``: those of the machine that asked, by name.

    What one side does not have at all is told too: it may be what makes the difference.
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
            by_version.setdefault(here.get(name, "none"), []).append("the machine that asked")
            versions_text = "; ".join(
                f"{version} on {_named(host_names)}" for version, host_names in by_version.items()
            )
            lines.append(f"{name} is not the same everywhere: {versions_text}")
    return lines


def _named(hosts: Sequence[str], most: int = 4) -> str:
    names = list(dict.fromkeys(hosts))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
