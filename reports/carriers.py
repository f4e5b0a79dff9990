"""What carries the messages of a curve: its measured exchanges, or a link that is only asked about."""

from __future__ import annotations

from collections.abc import Sequence

from bench.case import Case
from bench.records import Value
from reports.analysis.communication import fastest_time
from reports.analysis.forecast import Carrier
from reports.analysis.layers import Hop, hop_of, time_over
from reports.cells import Cell
from reports.exchanges import REMEDY, Way
from reports.placement import Spread, spread_of


class LinkSpec(Value):
    """A link that was not measured but is asked about: of each rank, or of each node where several share one."""

    label: str
    bytes_s: float
    latency_s: float


def measured_carrier(way: Way | None, cells: Sequence[Cell]) -> Carrier | str:
    """For ranks placed as the cells' are, or why their exchange is not known."""
    case = cells[0].case
    if way is None:
        return f"no allreduce was measured under {case.backend}/{case.transport}"
    spreads = [spread_of(cell.case) for cell in cells if cell.case.ranks > 1]
    why = next((reason for spread in spreads if (reason := way.why_not(spread)) is not None), None)
    if why is not None:
        return why
    width = spread_of(case).width
    return Carrier(lambda ranks, size: way.time_s(Spread(ranks, width), size), busy_cores(way, spreads, case))


def busy_cores(way: Way, spreads: Sequence[Spread], case: Case) -> float:
    """Of a rank's own cores, what the exchange at the most ranks takes; none where others do the work."""
    busy = case.device == "cpu" and case.affinity == "cores" and "emulated_compute" not in case.flags
    return way.core_share(max(spreads).place) if busy and spreads else 0.0


def over_link(link: LinkSpec, way: Way | None, width: int) -> Carrier | str:
    """Between nodes of ``width`` ranks, in the algorithm that suits best; or why what is inside a node isn't known."""
    across = Hop(link.latency_s, 1 / link.bytes_s, fastest_time(link.latency_s, 1 / link.bytes_s))
    if width == 1:
        return Carrier(across.allreduce_s)
    measured = way.model("inside") if way is not None else None
    if measured is None:
        return REMEDY["inside"]
    inside = hop_of(measured)
    ways = [time_over(algorithm, inside, across) for algorithm in ("flat ring", "hierarchical")]
    return Carrier(lambda ranks, size: min(time(ranks, Spread(ranks, width).nodes, size) for time in ways))
