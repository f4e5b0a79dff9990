"""The communication paths of a sweep: the fitted allreduce inside a node, across nodes, and both at once.

A path is a backend, its transport and its network. The messages of a curve are carried by the measured exchanges of its
path, or by a hypothetical link that a prediction was requested for.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bench.core.case import Case
from bench.core.collectives import Collective
from bench.core.frozen_model import FrozenModel
from reports.analysis.case_titles import CaseFinding
from reports.analysis.cells import Cell
from reports.analysis.communication import (
    AllreduceModel,
    AllreduceTiming,
    CannotFitAllreduce,
    bus_bandwidth,
    fastest_allreduce_time,
    fit_allreduce,
)
from reports.analysis.flags import claim_problem
from reports.analysis.layered_allreduce import (
    LayeredAllreduce,
    LinkModel,
    Misfit,
    layered_time_over_links,
    link_model,
    misfit_of,
    select_layered_allreduce,
)
from reports.analysis.placement import Place, Placement, place_of, placement_of
from reports.analysis.step_prediction import CommunicationCost

MISSING_ALLREDUCE: dict[Place, str] = {
    "inside": "no allreduce was measured inside a node: add 1 to --nodes, and allreduce to --workloads",
    "across": "no allreduce was measured across nodes: add 1 to --ranks-per-node, and allreduce to --workloads",
}


class FittedExchange(CaseFinding):
    """α and β of one path at one place, from the allreduce cells of a sweep; without a model :attr:`reason` says why.

    Its case is one of the allreduce cases it comes from.
    """

    place: Place
    model: AllreduceModel | None
    """``None`` where messages go inside nodes and across them: see :attr:`CommunicationPath.layered`."""
    reason: str | None = None
    rank_counts: tuple[int, ...] = ()
    bus_bandwidth: float | None = None
    """The highest measured, in bytes per second."""
    link_bytes_s: float | None = None
    """The measured bandwidth of each link; ``None`` where the link is not known."""
    core_share: float = 0.0
    """The share of a rank's own cores that was busy while it only exchanged; at most 1."""
    timings: tuple[AllreduceTiming, ...] = ()

    def fitted_below(self, placement: Placement) -> FittedExchange:
        """The same, fitted to the measurements at fewer nodes alone (on one node: at fewer ranks)."""
        known = {"link_bytes_s": self.link_bytes_s, "core_share": self.core_share}
        fewer = [
            timing
            for timing in self.timings
            if timing.nodes < placement.nodes or (placement.nodes == 1 and timing.ranks < placement.ranks)
        ]
        return _fit_timings(self.case, self.place, fewer).model_copy(update=known)


class ExchangeBacktest(NamedTuple):
    """The allreduces at the most nodes (on one node: at the most ranks), as predicted from the smaller counts."""

    place: Place
    model: str
    smaller: tuple[int, ...]
    ranks: int
    nodes: int
    misfit: Misfit


class CommunicationPath(CaseFinding):
    """One path that gradients take, with its measurements at all places."""

    places: dict[Place, FittedExchange]
    layered: LayeredAllreduce | None = None
    """The model for several ranks on each of several nodes; without it :attr:`layered_reason` says why."""
    layered_reason: str | None = None

    def model(self, place: Place) -> AllreduceModel | None:
        """The fitted α and β at a place."""
        return self.places[place].model if place in self.places else None

    def unavailable_reason(self, placement: Placement) -> str | None:
        """The reason why an allreduce among such ranks can't be predicted, or ``None``."""
        if placement.ranks == 1 or (placement.place == "both" and self.layered is not None):
            return None
        if placement.place == "both":
            return self.layered_reason
        return None if self.model(placement.place) is not None else self._missing_reason(placement.place)

    def time_s(self, placement: Placement, message_bytes: float) -> float:
        """The time of one allreduce. Raises ``ValueError`` where :meth:`unavailable_reason` has a reason."""
        if (reason := self.unavailable_reason(placement)) is not None:
            raise ValueError(reason)
        if placement.place == "both" and self.layered is not None:
            return self.layered.time_s(placement.ranks, placement.nodes, message_bytes)
        model = self.model(placement.place)
        return 0.0 if model is None else model.time_s(placement.ranks, message_bytes)

    def core_share(self, place: Place) -> float:
        """The share of a rank's cores that an exchange at this place (if not measured: at another) keeps busy."""
        exchange = self.places.get(place) or next(iter(self.places.values()))
        return exchange.core_share

    def rank_counts(self, place: Place) -> tuple[int, ...]:
        """The rank counts of the allreduces that apply to ranks at this place."""
        fits = self.places if place == "both" else {place: self.places[place]} if place in self.places else {}
        return tuple(sorted({count for exchange in fits.values() for count in exchange.rank_counts}))

    def fitted_below(self, placement: Placement) -> CommunicationPath:
        """The same, fitted to the measurements at fewer nodes alone (on one node: at fewer ranks)."""
        return _build_path(
            self.case, {place: exchange.fitted_below(placement) for place, exchange in self.places.items()}
        )

    def backtests(self) -> tuple[ExchangeBacktest, ...]:
        """One for each place that was measured at two different counts, or that the parts of an exchange predict."""
        results = (self._backtest(result) for result in self.places.values())
        return tuple(result for result in results if result is not None)

    def _missing_reason(self, place: Place) -> str:
        exchange = self.places.get(place)
        return exchange.reason if exchange is not None and exchange.reason else MISSING_ALLREDUCE[place]

    def _backtest(self, exchange: FittedExchange) -> ExchangeBacktest | None:
        if not exchange.timings:
            return None
        nodes, ranks = max((timing.nodes, timing.ranks) for timing in exchange.timings)
        last = [timing for timing in exchange.timings if (timing.nodes, timing.ranks) == (nodes, ranks)]
        placement = Placement(ranks, -(-ranks // nodes))
        smaller_path = self.fitted_below(placement)
        if smaller_path.unavailable_reason(placement) is not None or (
            smaller_path.layered is None and placement.place == "both"
        ):
            return None
        layered = placement.place == "both" and smaller_path.layered
        model = smaller_path.model(exchange.place)
        name = layered.algorithm if layered else model.algorithm if model else ""
        misfit = misfit_of(
            lambda timing: smaller_path.time_s(Placement(timing.ranks, placement.ranks_per_node), timing.message_bytes),
            last,
        )
        smaller = smaller_path.rank_counts(exchange.place)
        return ExchangeBacktest(exchange.place, name, smaller, ranks, nodes, misfit)


def path_key(case: Case) -> str:
    """Cases with the same key share their communication path."""
    options, variables = sorted(case.backend_options.items()), sorted(case.env.items())
    return f"{case.backend}/{case.transport} {options} {variables} {case.device} {case.net} {case.site} {case.label}"


def timings_of(cells: Sequence[Cell]) -> list[AllreduceTiming]:
    """Every measured allreduce of the cells, one for each message size."""
    return operation_timings("all_reduce", cells)


def operation_timings(operation: Collective, cells: Sequence[Cell]) -> list[AllreduceTiming]:
    """Every measured time of an operation over messages of float32, as gradients are."""
    return [
        AllreduceTiming(cell.case.ranks, message.message_bytes, message.time_s.value, placement_of(cell.case).nodes)
        for cell in cells
        if cell.case.workload_options.get("datatype", "float32") == "float32"
        for message in cell.messages
        if message.operation == operation
    ]


def measures_alone(cell: Cell, operation: Collective) -> bool:
    """Whether the cell's times of an operation count: its ranks have cores of their own, or wait for a shaped link."""
    if cell.case.fault is not None or cell.case.ranks == 1 or not operation_timings(operation, [cell]):
        return False
    crossed = cell.link is not None and placement_of(cell.case).nodes > 1
    limited_by_link = crossed and cell.link is not None and cell.link.wanted_bytes_s and "slow_links" not in cell.flags
    return claim_problem(cell.flags) is None or bool(limited_by_link)


def communication_paths(cells: Sequence[Cell]) -> dict[str, CommunicationPath]:
    """The paths of a sweep by :func:`path_key`.

    Cells with a fault are left out. So are oversubscribed cells, unless they crossed shaped links that kept their rate:
    there the ranks wait for the links and not for each other's cores.
    """
    by_path: dict[str, dict[Place, list[Cell]]] = {}
    for cell in cells:
        if measures_alone(cell, "all_reduce"):
            by_path.setdefault(path_key(cell.case), {}).setdefault(place_of(cell.case), []).append(cell)
    return {
        path: _build_path(
            next(iter(places.values()))[0].case, {place: _fit_place(place, own) for place, own in places.items()}
        )
        for path, places in by_path.items()
    }


def _build_path(case: Case, places: dict[Place, FittedExchange]) -> CommunicationPath:
    path = CommunicationPath(case=case, places=places)
    inside, across = path.model("inside"), path.model("across")
    if inside is None:
        return path.model_copy(update={"layered_reason": path._missing_reason("inside")})
    layered = select_layered_allreduce(inside, across, places["both"].timings if "both" in places else ())
    return path.model_copy(
        update={"layered": layered, "layered_reason": None if layered else path._missing_reason("across")}
    )


def _fit_place(place: Place, cells: Sequence[Cell]) -> FittedExchange:
    link_rate = next((cell.link.achieved_bytes_s for cell in cells if cell.link is not None), None)
    known = {"link_bytes_s": link_rate if place != "inside" else None, "core_share": _core_share(cells)}
    return _fit_timings(cells[0].case, place, timings_of(cells)).model_copy(update=known)


def _core_share(cells: Sequence[Cell]) -> float:
    busy = [
        reading.estimate.value / cell.case.threads
        for cell in cells
        for reading in cell.usage
        if reading.name == "rank_cpu" and reading.estimate is not None
    ]
    return min(1.0, fmean(busy)) if busy else 0.0


def _fit_timings(case: Case, place: Place, timings: Sequence[AllreduceTiming]) -> FittedExchange:
    counts = tuple(sorted({timing.ranks for timing in timings}))
    best = max((bus_bandwidth(timing) for timing in timings), default=None)
    known = FittedExchange(
        case=case, place=place, model=None, rank_counts=counts, bus_bandwidth=best, timings=tuple(timings)
    )
    if place == "both":
        return known
    try:
        return known.model_copy(update={"model": fit_allreduce(timings)})
    except CannotFitAllreduce as problem:
        return known.model_copy(update={"reason": str(problem)})


class LinkSpec(FrozenModel):
    """A link that was not measured, for predictions: of each rank, or of each node where several ranks share one."""

    label: str
    bytes_s: float
    latency_s: float


def measured_communication(path: CommunicationPath | None, cells: Sequence[Cell]) -> CommunicationCost | str:
    """The cost of exchanges among ranks placed as the cells' are, or the reason why it is not known."""
    case = cells[0].case
    if path is None:
        return f"no allreduce was measured under {case.backend}/{case.transport}"
    placements = [placement_of(cell.case) for cell in cells if cell.case.ranks > 1]
    reasons = (path.unavailable_reason(placement) for placement in placements)
    if (reason := next((reason for reason in reasons if reason is not None), None)) is not None:
        return reason
    ranks_per_node = placement_of(case).ranks_per_node
    return CommunicationCost(
        lambda ranks, size: path.time_s(Placement(ranks, ranks_per_node), size),
        communication_core_share(path, placements, case),
    )


def communication_core_share(path: CommunicationPath, placements: Sequence[Placement], case: Case) -> float:
    """The share of a rank's own cores that the exchange at the most ranks takes; 0 where other hardware computes."""
    busy = case.device == "cpu" and case.affinity == "cores" and "emulated_compute" not in case.flags
    return path.core_share(max(placements).place) if busy and placements else 0.0


def communication_over_link(
    link: LinkSpec, path: CommunicationPath | None, ranks_per_node: int
) -> CommunicationCost | str:
    """The cost of exchanges over a hypothetical link, or the reason why it can't be predicted.

    Args:
        link: the link between nodes.
        path: the measured path, for the exchange inside a node.
        ranks_per_node: with more than one, the faster of flat ring and hierarchical is taken.
    """
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
