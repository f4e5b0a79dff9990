"""A step is launch-bound where the device has done its work before the host has launched more.

The model: in every step the host needs h for its launches, whatever the size of a batch, and the device b for its work.
They overlap, so that a step takes T = max(h, b). Where the device waits for the host, T = h > b. From a measured b
(:mod:`reports.analysis.device_busy`) follow two predictions, each an upper bound:

- a CUDA graph launches a step at once: T falls to b at best, and throughput grows by T ÷ b at most;
- with a batch k times as large the device needs k·b at most (small kernels need less than in proportion), and the host
  h as before: while k·b < h a step takes as long as before, so that throughput grows by k, up to T ÷ b.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.plugins import registry
from reports.analysis import formatting
from reports.analysis.cell_details import ReadingCell
from reports.analysis.device_busy import HOST_BOUND_SHARE
from reports.analysis.stats import Estimate

MIN_SHARE = 0.1
"""A smaller share of a step in which the device waits for the host is not worth a sentence."""
RANK_CPU = "rank_cpu"
UNKNOWN = "whether cuda_graph can be set is unknown here"
GPU_READINGS = {"gpu_sm_activity": "SM activity", "gpu_utilization": "GPU utilization"}
"""Readings of the window that tell the same where they are known; the first one is named."""


class LaunchBound(FrozenModel):
    """The host can't feed the device: how much of a step that takes, and the most that remedies would give."""

    host_bound_share: Estimate
    """The share of a step in which the device waits for the host."""
    step_s: float
    device_busy_s: float
    """How long the device needs for a step."""
    most_speedup: float
    """Predicted: what a CUDA graph, or a batch so many times as large, would give at most."""
    graph_refused: str | None
    """Why ``cuda_graph=true`` can't be set for the case, or that it is; ``None``: it can."""
    seen: str = ""
    """Readings of the window that tell the same, such as ``SM activity 4 %, rank CPU 0.99 cores``."""

    @property
    def answer(self) -> str:
        """Two sentences: ``the host can't feed the GPU, which waits for launches for 83 % of a step. …``"""
        share, seen = formatting.percent(self.host_bound_share), f" ({self.seen})" if self.seen else ""
        times = formatting.number(self.most_speedup)
        graph = (
            f"cuda_graph=true takes a step from {formatting.duration(self.step_s)} to "
            f"{formatting.duration(self.device_busy_s)}, {times} times the throughput"
        )
        batch = f"a batch {times} times as large takes as long for a step as now"
        predicted = f"{graph}; {batch}" if self.graph_refused is None else f"{batch} ({self.graph_refused})"
        return (
            f"the host can't feed the GPU, which waits for launches for {share} of a step{seen}. "
            f"Predicted at best: {predicted}."
        )


def find_launch_bound(
    case: Case, step: Estimate | None, busy: Estimate | None, usage: Sequence[ReadingCell]
) -> LaunchBound | None:
    """Whether a case is launch-bound; ``None`` where it is not, or the device time of its steps is unknown.

    Args:
        case: The case.
        step: The step over the trials, in seconds.
        busy: How long the device needs for it.
        usage: The readings of the window.
    """
    share = next((reading.estimate for reading in usage if reading.name == HOST_BOUND_SHARE), None)
    if share is None or step is None or busy is None or share.value < MIN_SHARE or busy.value <= 0:
        return None
    return LaunchBound(
        host_bound_share=share,
        step_s=step.value,
        device_busy_s=busy.value,
        most_speedup=step.value / busy.value,
        graph_refused=_graph_refused(case),
        seen=_seen(usage),
    )


def _seen(usage: Sequence[ReadingCell]) -> str:
    known = {reading.name: reading.estimate for reading in usage if reading.estimate is not None}
    gpu = [f"{title} {formatting.reading(known[name])}" for name, title in GPU_READINGS.items() if name in known]
    host = [f"rank CPU {formatting.reading(known[RANK_CPU])}"] if RANK_CPU in known else []
    return ", ".join([*gpu[:1], *host])


def _graph_refused(case: Case) -> str | None:
    """Why a graph can't be asked for, as far as that is known: a report runs no code of a stored sweep."""
    if case.workload_options.get("cuda_graph"):
        return "cuda_graph=true is set, and what it can't hold is launched by the host"
    if any(plugin.name in (case.backend, case.workload) for plugin in case.plugins):
        return UNKNOWN
    try:
        backend, workload = registry.BACKENDS.load(case.backend), registry.WORKLOADS.load(case.workload)
    except Exception:
        # It may be one of another installation.
        return UNKNOWN
    if "cuda_graph" not in workload.options.execution:
        return f"the workload {case.workload} has no cuda_graph"
    if "cuda_graph" in backend.unsupported_options:
        return f"{case.backend} does not take cuda_graph=true: {backend.unsupported_options['cuda_graph']}"
    graphed = case.model_copy(update={"workload_options": {**case.workload_options, "cuda_graph": True}})
    return workload.unsupported_reason(graphed) or backend.unsupported_reason(graphed)
