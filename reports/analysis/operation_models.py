"""The time of all_gather and reduce_scatter by size and number of ranks, as sharded training needs it.

    (N−1)·α + (N−1)/N·S·β

N ranks in a ring, the whole S in bytes, α in seconds for each message, β in seconds per byte (Thakur, Rabenseifner and
Gropp 2005, doi:10.1177/1094342005051521). Fitted as an allreduce is (:mod:`reports.analysis.communication`), to the
workload ``collectives`` in the same sweep, for each communication path and place of the ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.core.collectives import Collective
from reports.analysis.case_titles import CaseFinding
from reports.analysis.cells import Cell
from reports.analysis.communication import (
    MIN_MESSAGE_SIZES,
    AllreduceModel,
    AllreduceTiming,
    fit_latency_and_bandwidth,
)
from reports.analysis.communication_paths import measures_alone, operation_timings, path_key
from reports.analysis.placement import Place, place_of
from reports.analysis.scaling import Parameter
from reports.analysis.step_prediction import ShardedCost

SHARDING_OPERATIONS: tuple[Collective, ...] = ("all_gather", "reduce_scatter")
MEASURE = "add collectives to --workloads, with --set collectives.operation=all_gather,reduce_scatter"


class OperationModel(CaseFinding):
    """α and β of one operation on one path at one place; without them :attr:`reason` says why.

    Its case is one of those that it was measured in.
    """

    operation: Collective
    place: Place
    rank_counts: tuple[int, ...]
    latency_s: Parameter | None = None
    byte_s: Parameter | None = None
    misfit: float | None = None
    """The largest relative residual."""
    reason: str | None = None

    def time_s(self, ranks: int, message_bytes: float) -> float:
        """The modelled time. Raises ``ValueError`` where :attr:`reason` says why there is none."""
        if self.latency_s is None or self.byte_s is None:
            raise ValueError(self.reason)
        steps, carried = ring_coefficients(ranks, message_bytes)
        return steps * self.latency_s.value + carried * self.byte_s.value


OperationModels = Mapping[tuple[str, Collective, Place], OperationModel]
"""By :func:`reports.analysis.communication_paths.path_key`, operation and place."""


def ring_coefficients(ranks: int, message_bytes: float) -> tuple[float, float]:
    """The coefficients of α (a count) and of β (in bytes) in the time of an all_gather or reduce_scatter (pure)."""
    return ranks - 1.0, (ranks - 1) / ranks * message_bytes


def operation_models(cells: Sequence[Cell]) -> dict[tuple[str, Collective, Place], OperationModel]:
    """The models of a sweep. Cells with a fault, and oversubscribed ones, are left out as for allreduces."""
    by_path: dict[tuple[str, Collective, Place], list[Cell]] = {}
    for cell in cells:
        for operation in SHARDING_OPERATIONS:
            if measures_alone(cell, operation):
                by_path.setdefault((path_key(cell.case), operation, place_of(cell.case)), []).append(cell)
    return {key: _fit(key[1], key[2], own) for key, own in by_path.items()}


def _fit(operation: Collective, place: Place, cells: Sequence[Cell]) -> OperationModel:
    timings = operation_timings(operation, cells)
    counts = tuple(sorted({timing.ranks for timing in timings}))
    known = OperationModel(case=cells[0].case, operation=operation, place=place, rank_counts=counts)
    sizes = {timing.message_bytes for timing in timings}
    if place == "both":
        return known.model_copy(update={"reason": "several ranks on each of several nodes: two kinds of links"})
    if len(sizes) < MIN_MESSAGE_SIZES:
        reason = f"fitting α and β needs {MIN_MESSAGE_SIZES} message sizes, there are {len(sizes)}"
        return known.model_copy(update={"reason": reason})
    fitted = fit_ring(timings)
    return known.model_copy(update={"latency_s": fitted.latency_s, "byte_s": fitted.byte_s, "misfit": fitted.misfit})


def fit_ring(timings: Sequence[AllreduceTiming]) -> AllreduceModel:
    """α and β of an operation that passes each part of its message once around a ring.

    Raises:
        ValueError: a time is not positive and finite.
    """
    if any(not (0 < timing.time_s < math.inf) for timing in timings):
        raise ValueError("times must be positive and finite")
    columns = [ring_coefficients(timing.ranks, timing.message_bytes) for timing in timings]
    return fit_latency_and_bandwidth(timings, "ring", columns)


def sharded_cost(models: OperationModels, path: str, place: Place) -> ShardedCost | str:
    """The cost of sharded training on a path, or what is missing to know it."""
    found: dict[Collective, OperationModel] = {}
    for operation in SHARDING_OPERATIONS:
        model = models.get((path, operation, place))
        if model is None:
            return f"no {operation} was measured for ranks placed as these: {MEASURE}"
        if model.reason is not None:
            return f"{operation}: {model.reason}"
        found[operation] = model
    return ShardedCost(found["all_gather"].time_s, found["reduce_scatter"].time_s)
