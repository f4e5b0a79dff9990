"""The fitted exchange of each way that gradients travel in a sweep: inside a node, across nodes, and both at once."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bench.case import Case
from bench.records import Value
from reports.analysis.communication import CannotFitExchange, Exchange, Timing, bus_bandwidth, fit_exchange
from reports.analysis.layers import Layered, Misfit, judge_layers, misfit_of
from reports.cells import Cell
from reports.placement import Place, Spread, place_of, spread_of

REMEDY: dict[Place, str] = {
    "inside": "inside a node no allreduce was measured: add 1 to --nodes, and allreduce to --workloads",
    "across": "across nodes no allreduce was measured: add 1 to --ranks-per-node, and allreduce to --workloads",
}


class FittedExchange(Value):
    """α and β of one way at one place, from the allreduce cells of a sweep; without a model :attr:`reason` says why."""

    case: Case
    """One of the allreduce cases it comes from."""
    place: Place
    model: Exchange | None
    """None where messages go both inside nodes and across them: that has two of each, see :attr:`Way.layered`."""
    reason: str | None = None
    rank_counts: tuple[int, ...] = ()
    bus_bandwidth: float | None = None
    """The highest that was measured, in bytes a second."""
    link_bytes_s: float | None = None
    """What each link carries, as it was measured; ``None`` where the link is not known."""
    core_share: float = 0.0
    """Of a rank's own cores, that its processes were busy while they did nothing but exchange; at most 1."""
    timings: tuple[Timing, ...] = ()

    def below(self, spread: Spread) -> FittedExchange:
        """As the measurements at fewer nodes alone, or on one node at fewer ranks, would have given it."""
        known = {"link_bytes_s": self.link_bytes_s, "core_share": self.core_share}
        fewer = [one for one in self.timings
                 if one.nodes < spread.nodes or (spread.nodes == 1 and one.ranks < spread.ranks)]  # fmt: skip
        return _fitted(self.case, self.place, fewer).model_copy(update=known)


class ExchangeBacktest(NamedTuple):
    """The allreduces at the most nodes, or on one node at the most ranks, as the smaller would have foretold them."""

    place: Place
    model: str
    smaller: tuple[int, ...]
    ranks: int
    nodes: int
    misfit: Misfit


class Way(Value):
    """One way that gradients travel, wherever it was measured."""

    case: Case
    places: dict[Place, FittedExchange]
    layered: Layered | None = None
    """What several ranks on each of several nodes take; without it :attr:`layered_reason` says why."""
    layered_reason: str | None = None

    def model(self, place: Place) -> Exchange | None:
        return self.places[place].model if place in self.places else None

    def why_not(self, spread: Spread) -> str | None:
        """Why an allreduce among such ranks can't be foretold, or ``None``."""
        if spread.ranks == 1 or (spread.place == "both" and self.layered is not None):
            return None
        if spread.place == "both":
            return self.layered_reason
        return None if self.model(spread.place) is not None else self._missing(spread.place)

    def time_s(self, spread: Spread, message_bytes: float) -> float:
        """Of one allreduce. Raises ``ValueError`` where :meth:`why_not` has a reason."""
        if (why := self.why_not(spread)) is not None:
            raise ValueError(why)
        if spread.place == "both" and self.layered is not None:
            return self.layered.time_s(spread.ranks, spread.nodes, message_bytes)
        model = self.model(spread.place)
        return 0.0 if model is None else model.time_s(spread.ranks, message_bytes)

    def core_share(self, place: Place) -> float:
        """Where it was not measured at this place, as at another."""
        found = self.places.get(place) or next(iter(self.places.values()))
        return found.core_share

    def rank_counts(self, place: Place) -> tuple[int, ...]:
        """Where the allreduces were measured that speak for ranks at this place."""
        used = self.places if place == "both" else {place: self.places[place]} if place in self.places else {}
        return tuple(sorted({count for one in used.values() for count in one.rank_counts}))

    def below(self, spread: Spread) -> Way:
        """As the measurements at fewer nodes alone, or on one node at fewer ranks, would have given it."""
        return _joined(self.case, {place: found.below(spread) for place, found in self.places.items()})

    def backtests(self) -> tuple[ExchangeBacktest, ...]:
        """One a place where two different counts were measured, or where the parts of an exchange foretell it."""
        found = (self._backtest(one) for one in self.places.values())
        return tuple(one for one in found if one is not None)

    def _missing(self, place: Place) -> str:
        found = self.places.get(place)
        return found.reason if found is not None and found.reason else REMEDY[place]

    def _backtest(self, found: FittedExchange) -> ExchangeBacktest | None:
        if not found.timings:
            return None
        nodes, ranks = max((one.nodes, one.ranks) for one in found.timings)
        last = [one for one in found.timings if (one.nodes, one.ranks) == (nodes, ranks)]
        spread = Spread(ranks, -(-ranks // nodes))
        earlier = self.below(spread)
        if earlier.why_not(spread) is not None or (earlier.layered is None and spread.place == "both"):
            return None
        layered = spread.place == "both" and earlier.layered
        model = earlier.model(found.place)
        name = layered.algorithm if layered else model.algorithm if model else ""
        off = misfit_of(lambda one: earlier.time_s(Spread(one.ranks, spread.width), one.message_bytes), last)
        smaller = earlier.rank_counts(found.place)
        return ExchangeBacktest(found.place, name, smaller, ranks, nodes, off)


def way_of(case: Case) -> str:
    """What must be the same for one case's exchange to speak for another's."""
    options = sorted(case.backend_options.items())
    return f"{case.backend}/{case.transport} {options} {case.device} {case.net} {case.site} {case.label}"


def timings_of(cells: Sequence[Cell]) -> list[Timing]:
    return [
        Timing(cell.case.ranks, message.message_bytes, message.time_s.value, spread_of(cell.case).nodes)
        for cell in cells
        for message in cell.messages
    ]


def exchanges_of(cells: Sequence[Cell]) -> dict[str, Way]:
    """By :func:`way_of`. Cells with a fault are left out, and oversubscribed ones unless they crossed shaped links
    that kept their rate: there the ranks wait for the wire and not for each other's cores."""
    by_way: dict[str, dict[Place, list[Cell]]] = {}
    for cell in cells:
        crossed = cell.link is not None and spread_of(cell.case).nodes > 1
        by_the_wire = crossed and cell.link is not None and cell.link.wanted_bytes_s and "slow_links" not in cell.flags
        waits_for_cores = "oversubscribed" in cell.flags and not by_the_wire
        if cell.messages and cell.case.fault is None and not waits_for_cores and cell.case.ranks > 1:
            by_way.setdefault(way_of(cell.case), {}).setdefault(place_of(cell.case), []).append(cell)
    return {
        way: _joined(next(iter(found.values()))[0].case, {place: _of_place(place, own) for place, own in found.items()})
        for way, found in by_way.items()
    }


def _joined(case: Case, places: dict[Place, FittedExchange]) -> Way:
    way = Way(case=case, places=places)
    inside, across = way.model("inside"), way.model("across")
    if inside is None:
        return way.model_copy(update={"layered_reason": way._missing("inside")})
    found = judge_layers(inside, across, places["both"].timings if "both" in places else ())
    return way.model_copy(update={"layered": found, "layered_reason": None if found else way._missing("across")})


def _of_place(place: Place, cells: Sequence[Cell]) -> FittedExchange:
    carried = next((cell.link.achieved_bytes_s for cell in cells if cell.link is not None), None)
    known = {"link_bytes_s": carried if place != "inside" else None, "core_share": _core_share(cells)}
    return _fitted(cells[0].case, place, timings_of(cells)).model_copy(update=known)


def _core_share(cells: Sequence[Cell]) -> float:
    busy = [
        reading.estimate.value / cell.case.threads
        for cell in cells
        for reading in cell.usage
        if reading.name == "rank_cpu" and reading.estimate is not None
    ]
    return min(1.0, fmean(busy)) if busy else 0.0


def _fitted(case: Case, place: Place, timings: Sequence[Timing]) -> FittedExchange:
    counts = tuple(sorted({timing.ranks for timing in timings}))
    best = max((bus_bandwidth(timing) for timing in timings), default=None)
    known = FittedExchange(
        case=case, place=place, model=None, rank_counts=counts, bus_bandwidth=best, timings=tuple(timings)
    )
    if place == "both":
        return known
    try:
        return known.model_copy(update={"model": fit_exchange(timings)})
    except CannotFitExchange as problem:
        return known.model_copy(update={"reason": str(problem)})
