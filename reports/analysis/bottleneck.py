"""What limits the scaling of a curve: the shares of a step that a perfectly scaling step would not have.

With the step time T = c + waiting + exposed, c the mean own time of a rank and CS the computation scaling (the time
that the same work takes at the smallest rank count ÷ here), a perfectly scaling step takes c·CS. So

    1 − global efficiency = exposed/T + waiting/T + c(1 − CS)/T

exactly. A negative share is a gain: compute is faster where smaller pieces fit into a cache. A curve whose steps were
not decomposed is explained by its fitted scaling law alone.

On a GPU, compute has a share in which the device waits for the host (:mod:`reports.analysis.launch_bound`): a part of
compute and no further term. Where it is large, it is also why compute does not shrink with its share of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from bench.core.case import Case
from reports.analysis import formatting
from reports.analysis.case_titles import CaseFinding
from reports.analysis.cell_details import Decomposition
from reports.analysis.cells import Cell
from reports.analysis.curve import Curve
from reports.analysis.launch_bound import MIN_SHARE as MIN_HOST_BOUND

EXPOSED = "communication that compute could not hide"
WAITING = "waiting for the slowest rank"
UNATTRIBUTED = "work outside the parts of a step"
MIN_SHARE = 0.05
"""Smaller losses, as a share of a step, are not reported."""
SLOWER = "compute that takes longer than at the smallest rank count"
HOST_BOUND = "the host, which can't feed the device"
TERM_TITLES = {
    EXPOSED: "exposed communication",
    WAITING: "load imbalance",
    SLOWER: "compute slower than at the smallest rank count",
}
"""The terms as reports show them; their own texts are keys of ``--json``."""


def efficiency_losses(decomposition: Decomposition) -> dict[str, float]:
    """The lost shares of a step by cause; empty where the smallest rank count was not decomposed."""
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
    """What limits one curve, at the largest rank count whose step was decomposed; or a cell of a single rank count
    whose device waits for the host."""

    curve: str
    shares: dict[str, float]
    """Of the step by term: compute, data, waiting, exposed communication and what is unattributed, in sum 1; empty if
    not decomposed."""
    slower: float | None
    """The share of the step by which compute exceeds what the same work takes at the smallest rank count."""
    host_bound: float | None = None
    """The share of the step, within compute, in which the device waits for the host; ``None``: unknown, or no GPU."""
    most_speedup: float | None = None
    """Predicted: what a CUDA graph or a larger batch gives at most; ``None`` where the device hardly waits."""
    contention: float | None
    """The share of contention in the fitted time at that rank count; ``None`` without a fitted law that has it."""
    coherency: float | None
    """Likewise for coherency."""
    limited_by: str
    conditions: tuple[str, ...] = ()
    reason: str | None = None
    """Why the step could not be decomposed, where that was requested."""


def bottlenecks(curve_cells: Mapping[str, Sequence[Cell]], curves: Mapping[str, Curve]) -> tuple[Bottleneck, ...]:
    """One for each curve of several rank counts: from its largest decomposed rank count, else from its scaling law.

    Where neither is known, the reason why its steps could not be decomposed.
    """
    limits = []
    for key, cells in curve_cells.items():
        curve = curves.get(key)
        last = next((cell for cell in reversed(cells) if cell.decomposition), None)
        unknown = next((cell for cell in reversed(cells) if cell.decomposition_reason), None)
        if last is not None and curve is not None and last.case.ranks > 1:
            limits.append(_step_bottleneck(last, curve))
        elif cells[-1].launch_bound is not None:
            limits.append(_step_bottleneck(cells[-1], curve))
        elif curve is not None and curve.model not in (None, "linear"):
            reason = unknown.decomposition_reason if unknown else None
            limits.append(_law_bottleneck(cells[0].case, curve, reason))
        elif curve is not None and unknown is not None and unknown.case.ranks > 1:
            limits.append(_unknown_bottleneck(unknown, curve))
    return tuple(limits)


def _host_bound(cell: Cell) -> float | None:
    """The share of a step, within compute, in which the device waits for the host: the mean over the trials."""
    known = [trial.device.in_compute for trial in cell.measures if trial.device is not None]
    return fmean(known) if known else None


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
    """For a curve whose steps were not decomposed."""
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


def _step_bottleneck(cell: Cell, curve: Curve | None) -> Bottleneck:
    shares = shares_of_step(cell.decomposition) if cell.decomposition else {}
    slower = efficiency_losses(cell.decomposition).get(SLOWER) if cell.decomposition else None
    host_bound = _host_bound(cell)
    point = next((point for point in curve.points if point.ranks == cell.case.ranks), None) if curve else None
    law = point.time_parts if point and curve and curve.model not in (None, "linear") else {}
    whole = sum(law.values())
    # Trials with serious conditions were excluded, so those conditions explain nothing.
    condition_names = dict.fromkeys(condition.name for condition in cell.conditions if not condition.serious)
    return Bottleneck(
        curve=curve.name if curve else cell.case.curve,
        case=cell.case,
        shares=shares,
        slower=slower,
        host_bound=host_bound,
        most_speedup=cell.launch_bound.most_speedup if cell.launch_bound else None,
        contention=law["contention"] / whole if law else None,
        coherency=law["coherency"] / whole if law and curve and curve.model == "usl" else None,
        limited_by=limiting_term(shares, slower, host_bound),
        conditions=(*(SLOWED_BY[name] for name in condition_names if name in SLOWED_BY), *_at_power_limit(cell)),
        reason=cell.decomposition_reason if not shares else None,
    )


def shares_of_step(decomposition: Decomposition) -> dict[str, float]:
    """The shares of a step by term."""
    parts = decomposition.parts_s
    # What of a program can't be told apart is in the rest of its step.
    hidden = not {"forward", "backward", "optimizer"} <= parts.keys()
    compute = ("forward", "backward", "optimizer", *(("unattributed",) if hidden else ()))
    terms = {
        COMPUTE: compute,
        DATA: ("data",),
        WAITING: ("waiting",),
        EXPOSED: ("exposed",),
        UNATTRIBUTED: () if hidden else ("unattributed",),
    }
    by_term = {term: [parts[name].value for name in names if name in parts] for term, names in terms.items()}
    return {term: sum(seconds) / decomposition.step_s.value for term, seconds in by_term.items() if seconds}


def _at_power_limit(cell: Cell) -> tuple[str, ...]:
    """How long a GPU was at its power limit; nothing where that was short or is unknown."""
    shares = [reading.estimate for reading in cell.usage if reading.name == "gpu_power_capped" and reading.estimate]
    capped = shares[0].value if shares else 0.0
    return (f"a GPU at its power limit for {formatting.share(capped)} of the window",) if capped > MIN_SHARE else ()


def limiting_term(shares: Mapping[str, float], slower: float | None, host_bound: float | None = None) -> str:
    """The largest share of a step that is lost; compute where every lost share is below :data:`MIN_SHARE`.

    Where the device waits for the host, that is why compute is slower, and counts in its place.
    """
    lost = {term: share for term, share in shares.items() if term != COMPUTE}
    waits = host_bound is not None and host_bound >= MIN_HOST_BOUND
    lost |= {HOST_BOUND: host_bound or 0.0} if waits else {SLOWER: slower or 0.0}
    worst = max(lost, key=lambda term: lost[term])
    return worst if lost[worst] >= MIN_SHARE else COMPUTE
