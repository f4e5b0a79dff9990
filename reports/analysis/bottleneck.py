"""What becomes of the efficiency that is lost: the shares of a step that a perfectly scaling one would not have.

With the step time T = c + waiting + exposed, c the mean own time of a rank and CS the computation scaling (the time
that the same work takes at the smallest rank count ÷ here), a perfectly scaling step takes c·CS. So

    1 − global efficiency = exposed/T + waiting/T + c(1 − CS)/T

exactly. A share below 0 is a gain: smaller pieces that fit into a cache make compute faster.

Which term limits a curve, and its share: of the step, from the decomposition; of the fitted time, from the law.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.case import Case
from reports.analysis.case_titles import CaseFinding
from reports.analysis.cell_details import Decomposition
from reports.analysis.cells import Cell
from reports.analysis.curve import Curve

EXPOSED = "communication that compute could not hide"
WAITING = "waiting for the slowest rank"
MIN_SHARE = 0.05
"""Of a step: a loss below is not worth a word."""
SLOWER = "compute that takes longer than at the smallest rank count"


def efficiency_losses(decomposition: Decomposition) -> dict[str, float]:
    """Shares of a step by cause; empty where the smallest rank count was not decomposed."""
    if decomposition.computation_scaling is None:
        return {}
    step_s = decomposition.step_s.value
    waiting_s, exposed_s = decomposition.parts_s["waiting"].value, decomposition.parts_s["exposed"].value
    own_s = step_s - waiting_s - exposed_s
    return {
        EXPOSED: exposed_s / step_s,
        WAITING: waiting_s / step_s,
        SLOWER: own_s * (1 - decomposition.computation_scaling.value) / step_s,
    }


COMPUTE, DATA = "compute", "fetching data"
NOT_MEASURED = "not measured"
SLOWED_BY = {
    "gpu_thermal_throttling": "throttling: a GPU slowed down by heat",
    "gpu_power_brake": "throttling: a GPU's power brake",
    "gpu_power_capped": "throttling: a GPU at its power limit",
    "gpu_clock_moved": "throttling: a GPU's clock moved",
    "cpu_clock_moved": "throttling: the cores' clock moved",
    "cpu_steal": "cores stolen by the hypervisor",
    "host_load": "cores shared with others",
}


class Bottleneck(CaseFinding):
    """Of one curve, at the largest rank count whose step was taken apart."""

    curve: str
    shares: dict[str, float]
    """Of the step, by term: compute, data, waiting and exposed communication add up to 1; empty without its parts."""
    slower: float | None
    """How much of the step is compute beyond what the same work takes at the smallest rank count."""
    contention: float | None
    """Of the fitted time at that rank count; ``None`` where no law with contention was fitted."""
    coherency: float | None
    limited_by: str
    conditions: tuple[str, ...] = ()
    reason: str | None = None
    """Why the shares of the step are not known where they were asked for."""


def bottlenecks(curve_cells: Mapping[str, Sequence[Cell]], curves: Mapping[str, Curve]) -> tuple[Bottleneck, ...]:
    """One a curve with several rank counts, at the largest that was decomposed; else what its law alone says, or why
    the parts of a step are not known."""
    limits = []
    for key, curve in curves.items():
        last = next((cell for cell in reversed(curve_cells[key]) if cell.decomposition), None)
        unknown = next((cell for cell in reversed(curve_cells[key]) if cell.decomposition_reason), None)
        if last is not None and last.case.ranks > 1:
            limits.append(_step_bottleneck(last, curve))
        elif curve.model not in (None, "linear"):
            reason = unknown.decomposition_reason if unknown else None
            limits.append(_law_bottleneck(curve_cells[key][0].case, curve, reason))
        elif unknown is not None and unknown.case.ranks > 1:
            limits.append(_unknown_bottleneck(unknown, curve))
    return tuple(limits)


def _unknown_bottleneck(cell: Cell, curve: Curve) -> Bottleneck:
    return Bottleneck(
        curve=curve.name,
        case=cell.case,
        shares={},
        slower=None,
        contention=None,
        coherency=None,
        limited_by=NOT_MEASURED,
        reason=cell.decomposition_reason,
    )


def _law_bottleneck(case: Case, curve: Curve, reason: str | None) -> Bottleneck:
    """Of a curve whose steps were not decomposed."""
    last = curve.points[-1]
    whole = sum(last.time_parts.values())
    shares = {name: last.time_parts[name] / whole for name in ("contention", "coherency")}
    worst = max(shares, key=lambda name: shares[name])
    return Bottleneck(
        curve=curve.name,
        case=case.model_copy(update={"ranks": last.ranks}),
        shares={},
        slower=None,
        contention=shares["contention"],
        coherency=shares["coherency"] if curve.model == "usl" else None,
        limited_by=f"{worst}, by the law" if shares[worst] >= MIN_SHARE else COMPUTE,
        reason=reason,
    )


def _step_bottleneck(cell: Cell, curve: Curve) -> Bottleneck:
    assert cell.decomposition is not None
    parts, step_s = cell.decomposition.parts_s, cell.decomposition.step_s.value
    compute_s = sum(parts[name].value for name in ("forward", "backward", "optimizer"))
    shares = {
        COMPUTE: compute_s / step_s,
        DATA: parts["data"].value / step_s,
        WAITING: parts["waiting"].value / step_s,
        EXPOSED: parts["exposed"].value / step_s,
    }
    slower = efficiency_losses(cell.decomposition).get(SLOWER)
    point = next((point for point in curve.points if point.ranks == cell.case.ranks), None)
    law = point.time_parts if point and curve.model not in (None, "linear") else {}
    whole = sum(law.values())
    # The numbers of trials with serious conditions were left out: they explain nothing.
    condition_names = dict.fromkeys(condition.name for condition in cell.conditions if not condition.serious)
    return Bottleneck(
        curve=curve.name,
        case=cell.case,
        shares=shares,
        slower=slower,
        contention=law["contention"] / whole if law else None,
        coherency=law["coherency"] / whole if law and curve.model == "usl" else None,
        limited_by=limiting_term(shares, slower),
        conditions=tuple(SLOWED_BY[name] for name in condition_names if name in SLOWED_BY),
    )


def limiting_term(shares: Mapping[str, float], slower: float | None) -> str:
    """The largest share of a step that is not compute, or that compute has lost; compute where none is worth a word."""
    lost = {term: share for term, share in shares.items() if term != COMPUTE} | {SLOWER: slower or 0.0}
    worst = max(lost, key=lambda term: lost[term])
    return worst if lost[worst] >= MIN_SHARE else COMPUTE
