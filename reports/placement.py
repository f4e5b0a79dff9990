"""Where the ranks of a case are: how many a node holds, and whether what they exchange stays inside one."""

from __future__ import annotations

from typing import Literal, NamedTuple

from bench.case import Case

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
