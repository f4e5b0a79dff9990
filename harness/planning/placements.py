"""The machines of a site, and how ranks lie on them where nothing more was said."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from bench.core.case import Device
from bench.core.frozen_model import FrozenModel
from harness.errors import UsageError
from harness.planning.suite import Suite

ASSUMED_UNITS = 2


class Placement(NamedTuple):
    """A rank count, and how many ranks a full node holds."""

    ranks: int
    ranks_per_node: int | None


class Machine(FrozenModel):
    """What the plan needs to know of the machines of a site. ``None``: not known before the ranks are there."""

    site: str = "local"
    multi_node: bool = False
    """It has many such machines: ranks fill one node after the other, one a node where nothing else is said."""
    cores: int | None
    """Of one node."""
    gpus: int | None = 0
    cuda_torch: bool = False


def placements(suite: Suite, machine: Machine, device: Device) -> list[Placement]:
    """Rank counts, each with how many ranks a full node holds. Raises :class:`UsageError`."""
    if suite.nodes and suite.ranks:
        raise UsageError("nodes and ranks say the same twice: leave one of them out", ("nodes",))
    widths: tuple[int | None, ...] = suite.ranks_per_node or (1 if machine.multi_node or suite.nodes else None,)
    units = machine.gpus if device == "cuda" else machine.cores
    result = []
    for width in widths:
        counts = suite.ranks or default_ranks(ASSUMED_UNITS if units is None else units)
        if suite.nodes:
            counts = tuple(count * (width or 1) for count in suite.nodes)
        for count in counts:
            if width is not None and count > width and count % width:
                raise UsageError(
                    f"{count} ranks do not fill nodes of {width}: choose a multiple, or another ranks_per_node",
                    ("ranks_per_node",),
                )
            result.append(Placement(count, width))
    return result


def default_threads(places: Sequence[Placement], machine: Machine) -> int:
    """As many as a node's cores allow at the most ranks; one where the cores are not known."""
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
