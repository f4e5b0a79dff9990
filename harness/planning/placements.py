"""The machines of a site, and the default distribution of ranks over them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from bench.core.case import Device
from bench.core.frozen_model import FrozenModel
from harness.errors import UsageError
from harness.planning.limits import MAX_RANKS
from harness.planning.suite import Suite

ASSUMED_UNITS = 2
"""Cores or GPUs of a machine that is not known."""


class Placement(NamedTuple):
    """A rank count, and the number of ranks on a full node (``None``: all on one node)."""

    ranks: int
    ranks_per_node: int | None


class Machine(FrozenModel):
    """The machines of a site, as far as a plan needs them. ``None``: not known before the ranks run there."""

    site: str = "local"
    multi_node: bool = False
    """There are many such machines: ranks fill one node after the other; the default is one rank a node."""
    cores: int | None
    """Of one node; so are the GPUs."""
    gpus: int | None = 0
    cuda_torch: bool = False
    ranks_per_gpu: int = 1
    """How many ranks share a GPU, where the user asks for it."""

    @property
    def ranks_for_gpus(self) -> int | None:
        """The most ranks that its GPUs hold."""
        return None if self.gpus is None else self.gpus * self.ranks_per_gpu


def placements(suite: Suite, machine: Machine, device: Device) -> list[Placement]:
    """The rank counts of a suite, each with the number of ranks on a full node.

    Args:
        suite: Its ``ranks``, ``nodes`` and ``ranks_per_node``; where they are ``None``, defaults of the machine hold.
        machine: The machines of the site.
        device: Counts of GPUs or of cores are the default's limit.

    Raises:
        UsageError: Both ``ranks`` and ``nodes`` are given, or ranks do not fill nodes.
    """
    if suite.nodes and suite.ranks:
        raise UsageError("nodes and ranks both set the rank counts: leave one of them out", ("nodes",))
    widths: tuple[int | None, ...] = suite.ranks_per_node or (1 if machine.multi_node or suite.nodes else None,)
    units = machine.ranks_for_gpus if device == "cuda" else machine.cores
    result = []
    for width in widths:
        counts = suite.ranks or default_ranks(ASSUMED_UNITS if units is None else units)
        if suite.nodes:
            counts = tuple(count * (width or 1) for count in suite.nodes)
        for count in counts:
            if count > MAX_RANKS:
                place = "nodes" if suite.nodes else "ranks"
                raise UsageError(f"{count} ranks: a case has at most {MAX_RANKS:,}", (place,))
            if width is not None and count > width and count % width:
                raise UsageError(
                    f"{count} ranks do not fill nodes of {width}: choose a multiple, or another ranks_per_node",
                    ("ranks_per_node",),
                )
            result.append(Placement(count, width))
    return result


def default_threads(places: Sequence[Placement], machine: Machine) -> int:
    """Threads a rank: as many as a node's cores allow at the largest rank count; 1 where the cores are not known."""
    if machine.cores is None:
        return 1
    max_ranks = max(
        min(place.ranks, place.ranks_per_node or place.ranks) if machine.multi_node else place.ranks for place in places
    )
    return max(1, machine.cores // max_ranks)


def default_ranks(units: int) -> tuple[int, ...]:
    """1, 2, 4, … up to ``units`` (cores or GPUs)."""
    return tuple(itertools.takewhile(lambda count: count <= max(1, units), (2**power for power in range(32))))


def choose_device(suite: Suite, machine: Machine) -> Device:
    if suite.device != "auto":
        return suite.device
    return "cuda" if machine.gpus and machine.cuda_torch else "cpu"
