"""What carries the messages of a curve: its measured exchanges, or a link that is only asked about."""

from __future__ import annotations

from collections.abc import Sequence

from bench.case import Case
from bench.records import FrozenModel
from reports.analysis.communication import fastest_allreduce_time
from reports.analysis.forecast import CommunicationCost
from reports.analysis.layers import LinkModel, layered_time_over_links, link_model
from reports.cells import Cell
from reports.exchanges import MISSING_ALLREDUCE, CommunicationPath
from reports.placement import Placement, placement_of


class LinkSpec(FrozenModel):
    """A link that was not measured but is asked about: of each rank, or of each node where several share one."""

    label: str
    bytes_s: float
    latency_s: float


def measured_communication(path: CommunicationPath | None, cells: Sequence[Cell]) -> CommunicationCost | str:
    """For ranks placed as the cells' are, or why their exchange is not known."""
    case = cells[0].case
    if path is None:
        return f"no allreduce was measured under {case.backend}/{case.transport}"
    placements = [placement_of(cell.case) for cell in cells if cell.case.ranks > 1]
    why = next((reason for placement in placements if (reason := path.unavailable_reason(placement)) is not None), None)
    if why is not None:
        return why
    ranks_per_node = placement_of(case).ranks_per_node
    return CommunicationCost(
        lambda ranks, size: path.time_s(Placement(ranks, ranks_per_node), size),
        communication_core_share(path, placements, case),
    )


def communication_core_share(path: CommunicationPath, placements: Sequence[Placement], case: Case) -> float:
    """Of a rank's own cores, what the exchange at the most ranks takes; none where others do the work."""
    busy = case.device == "cpu" and case.affinity == "cores" and "emulated_compute" not in case.flags
    return path.core_share(max(placements).place) if busy and placements else 0.0


def communication_over_link(
    link: LinkSpec, path: CommunicationPath | None, ranks_per_node: int
) -> CommunicationCost | str:
    """Between nodes of ``width`` ranks, in the algorithm that suits best; or why what is inside a node isn't known."""
    across = LinkModel(link.latency_s, 1 / link.bytes_s, fastest_allreduce_time(link.latency_s, 1 / link.bytes_s))
    if ranks_per_node == 1:
        return CommunicationCost(across.allreduce_s)
    measured = path.model("inside") if path is not None else None
    if measured is None:
        return MISSING_ALLREDUCE["inside"]
    inside = link_model(measured)
    times = [layered_time_over_links(algorithm, inside, across) for algorithm in ("flat ring", "hierarchical")]
    return CommunicationCost(
        lambda ranks, size: min(time(ranks, Placement(ranks, ranks_per_node).nodes, size) for time in times)
    )
