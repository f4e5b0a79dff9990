"""The fitted exchange of each way that gradients travel in a sweep: a backend, its transport, its options."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench.case import Case
from bench.records import Value
from reports.analysis.communication import CannotFitExchange, Exchange, Timing, bus_bandwidth, fit_exchange
from reports.cells import Cell


class FittedExchange(Value):
    """α and β of one way, from the allreduce cells of a sweep; without a model :attr:`reason` says why."""

    case: Case
    """One of the allreduce cases it comes from."""
    model: Exchange | None
    reason: str | None = None
    rank_counts: tuple[int, ...] = ()
    bus_bandwidth: float | None = None
    """The highest that was measured, in bytes a second."""
    link_bytes_s: float | None = None
    """What each rank's link carries, as it was measured; ``None`` where the link is not known."""
    core_share: float = 0.0
    """Of a rank's own cores, that its processes were busy while they did nothing but exchange; at most 1."""
    timings: tuple[Timing, ...] = ()

    def below(self, ranks: int) -> FittedExchange:
        """As the measurements at fewer ranks alone would have given it."""
        known = {"link_bytes_s": self.link_bytes_s, "core_share": self.core_share}
        return _fitted(self.case, [one for one in self.timings if one.ranks < ranks]).model_copy(update=known)


def way_of(case: Case) -> str:
    """What must be the same for one case's exchange to speak for another's."""
    options = sorted(case.backend_options.items())
    return f"{case.backend}/{case.transport} {options} {case.device} {case.net} {case.label}"


def timings_of(cells: Sequence[Cell]) -> list[Timing]:
    return [
        Timing(cell.case.ranks, message.message_bytes, message.time_s.value)
        for cell in cells
        for message in cell.messages
    ]


def exchanges_of(cells: Sequence[Cell]) -> dict[str, FittedExchange]:
    """By :func:`way_of`. Cells with a fault are left out, and oversubscribed ones unless they crossed shaped links
    that kept their rate: there the ranks wait for the wire and not for each other's cores."""
    by_way: dict[str, list[Cell]] = {}
    for cell in cells:
        by_the_wire = cell.link is not None and cell.link.wanted_bytes_s and "slow_links" not in cell.flags
        waits_for_cores = "oversubscribed" in cell.flags and not by_the_wire
        if cell.messages and cell.case.fault is None and not waits_for_cores:
            by_way.setdefault(way_of(cell.case), []).append(cell)
    return {way: _of_way(found) for way, found in by_way.items()}


def _of_way(cells: Sequence[Cell]) -> FittedExchange:
    carried = next((cell.link.achieved_bytes_s for cell in cells if cell.link is not None), None)
    known = {"link_bytes_s": carried, "core_share": _core_share(cells)}
    return _fitted(cells[0].case, timings_of(cells)).model_copy(update=known)


def _core_share(cells: Sequence[Cell]) -> float:
    busy = [
        reading.estimate.value / cell.case.threads
        for cell in cells
        for reading in cell.usage
        if reading.name == "rank_cpu" and reading.estimate is not None
    ]
    return min(1.0, fmean(busy)) if busy else 0.0


def _fitted(case: Case, timings: Sequence[Timing]) -> FittedExchange:
    counts = tuple(sorted({timing.ranks for timing in timings}))
    best = max((bus_bandwidth(timing) for timing in timings), default=None)
    known = FittedExchange(case=case, model=None, rank_counts=counts, bus_bandwidth=best, timings=tuple(timings))
    try:
        return known.model_copy(update={"model": fit_exchange(timings)})
    except CannotFitExchange as problem:
        return known.model_copy(update={"reason": str(problem)})
