"""The time of a step of sharded training from its parts: what a rank computes, and the units that it gathers and
scatters.

Before a unit of the model computes, its parameters are gathered; after its backward pass its gradients are reduced and
scattered. With G the sum of the gathers of all units and R that of the reductions,

    without overlap   T = own + k·G + R
    with overlap      T = own + exposed(forward) + exposed(backward)

k is 2 where parameters are freed after the forward pass, else 1. With overlap, gathers and reductions travel one after
another beside the compute of other units: of the forward pass, the first gather and what exceeds the compute is
exposed; of the backward pass, the last reduction and what exceeds the compute.

The own times of a rank can't be measured beside such exchanges. They are those of the same model under a backend that
can leave its exchange out, at the same number of ranks; the optimizer updates 1/N of the parameters. What a single rank
of the sharded model takes beyond them, to copy units into and out of its shards, is added at every number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.core.case import Case
from bench.core.gradients import ShardedUnits
from reports.analysis.cells import Cell
from reports.analysis.step_model import OwnTimes

DECOMPOSED_BY = ("ddp", "single", "horovod", "dask")
"""The backends whose own times stand in, the first choice first."""


def predict_sharded_step(
    own: OwnTimes, units: ShardedUnits, gather_s: Callable[[float], float], scatter_s: Callable[[float], float]
) -> float:
    """The time of a step in seconds (pure).

    Args:
        own: The own work of the slowest rank; its optimizer updates the rank's shards alone.
        units: What is gathered and scattered.
        gather_s: The time to gather a unit, in seconds, by the bytes of the whole.
        scatter_s: The time to reduce and scatter the gradients of a unit, likewise.
    """
    gathers = [gather_s(size * units.gather_share) for size in units.unit_bytes]
    scatters = [scatter_s(size * units.reduce_share) for size in units.unit_bytes]
    again = sum(gathers) if units.gathered_again else 0.0
    if not units.overlaps:
        return own.total_s + sum(gathers) + again + sum(scatters)
    forward_s = gathers[0] + max(0.0, sum(gathers[1:]) - own.forward_s)
    backward_s = scatters[0] + max(0.0, again + sum(scatters[1:]) - own.backward_s)
    return own.total_s + forward_s + backward_s


def donor_of(cells: Sequence[Cell], curves: Mapping[str, Sequence[Cell]]) -> Sequence[Cell] | None:
    """The cells of another curve of the same work that was decomposed at most of the rank counts, or ``None``.

    Args:
        cells: Of a sharded curve.
        curves: The cells of all curves of the sweep by key.
    """
    wanted, counts = _work_of(cells[0].case), {cell.case.ranks for cell in cells}
    candidates = [
        own
        for own in curves.values()
        if own[0].case.backend in DECOMPOSED_BY and _work_of(own[0].case) == wanted and not own[0].case.backend_options
    ]

    def suitability(own: Sequence[Cell]) -> tuple[int, int]:
        decomposed = sum(cell.decomposition is not None and cell.case.ranks in counts for cell in own)
        return decomposed, -DECOMPOSED_BY.index(own[0].case.backend)

    best = max(candidates, key=suitability, default=None)
    return best if best is not None and suitability(best)[0] else None


def _work_of(case: Case) -> str:
    """Equal for cases that compute the same, whatever carries their gradients."""
    return case.model_copy(update={"backend": "any", "transport": "any", "backend_options": {}}).curve
