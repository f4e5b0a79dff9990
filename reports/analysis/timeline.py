"""Timelines of a trial's devices around the measured window: samples reduced to what is drawn.

Where the known samples of a gauge are further apart than :data:`MAX_SPACING` times what is usual in their series, what
happened in between is unknown: there a timeline has a gap. The growth of a counter is known over any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from statistics import fmean, median
from typing import Literal, NamedTuple

from bench.core.frozen_model import FrozenModel
from bench.core.records import Trial
from bench.core.telemetry import HOST, QUANTITIES, NodeTelemetry, Series
from reports.analysis.telemetry import gpus_of, node_labels, ranks_by_node

MAX_POINTS = 500


class Timeline(FrozenModel):
    """One quantity of one device. Times are seconds since the window began; the first and last may lie outside it."""

    device: str
    """``node-0``, or ``node-0 GPU 1``."""
    name: str
    """A key of :data:`TIMELINE_QUANTITIES`."""
    unit: str
    window_s: float
    times_s: tuple[float, ...]
    values: tuple[float | None, ...]
    """At most :data:`MAX_POINTS`: of a longer recording, the minimum and the maximum of each interval. ``None``:
    nothing is known from the time before to the time after."""
    unknown_s: float = 0.0
    """The part of the window that is in gaps."""
    unknown_reason: str = ""
    """Why; empty where no probe gave a reason."""
    samples: int
    """The number in the window; the next three are over all of them."""
    mean: float
    least: float
    most: float


class TimelineQuantity(NamedTuple):
    """A drawn quantity and its sampled series; a counter is drawn as its growth per second."""

    series: str
    unit: str
    on: Literal["host", "gpu"]


TIMELINE_QUANTITIES = {
    "job_cpu": TimelineQuantity("job_cpu_s", "cores", "host"),
    "network": TimelineQuantity("network_bytes", "B/s", "host"),
    "loopback": TimelineQuantity("loopback_bytes", "B/s", "host"),
    "gpu_utilization": TimelineQuantity("utilization", "1", "gpu"),
    "gpu_sm_activity": TimelineQuantity("sm_activity", "1", "gpu"),
    "gpu_tensor_activity": TimelineQuantity("tensor_activity", "1", "gpu"),
    "gpu_dram_activity": TimelineQuantity("dram_activity", "1", "gpu"),
    "gpu_power": TimelineQuantity("power_w", "W", "gpu"),
    "gpu_sm_clock": TimelineQuantity("sm_clock_hz", "Hz", "gpu"),
    "gpu_memory": TimelineQuantity("memory_bytes", "B", "gpu"),
}
MAX_SPACING = 3.0

Samples = list[tuple[float, float]]
Gap = tuple[float, float]


def timelines_of(good: Sequence[Trial]) -> tuple[Timeline, ...]:
    """The timelines of the last sampled trial; empty where none was sampled."""
    trial = next((trial for trial in reversed(good) if any(node.series for node in trial.telemetry)), None)
    if trial is None:
        return ()
    nodes = trial.telemetry
    named = zip(nodes, node_labels(nodes), ranks_by_node(trial.ranks, nodes), strict=True)
    return tuple(
        timeline for node, name, ranks in named for timeline in _node_timelines(node, name, gpus_of(node, ranks))
    )


def _node_timelines(node: NodeTelemetry, node_name: str, gpus: Sequence[str]) -> Iterator[Timeline]:
    by_name = {(series.device, series.name): series for series in node.series}
    sampled = [device.id for device in node.devices if device.id != HOST]
    for name, shown in TIMELINE_QUANTITIES.items():
        for device in (HOST,) if shown.on == "host" else gpus:
            series = by_name.get((device, shown.series))
            label = node_name if device == HOST else f"{node_name} GPU {sampled.index(device)}"
            timeline = _timeline(label, name, series, node) if series else None
            if timeline is not None:
                yield timeline


def _timeline(device: str, name: str, series: Series, node: NodeTelemetry) -> Timeline | None:
    """``None`` where no sample in the window is known."""
    samples = [
        (at - node.began_s, value) for at, value in zip(series.times_s, series.values, strict=True) if value is not None
    ]
    window_s = node.ended_s - node.began_s
    gaps: list[Gap] = []
    if QUANTITIES[series.name].kind == "counter":
        samples = counter_rates(samples)
    elif samples:
        gaps = find_gaps([at for at, _ in samples], node.interval_s, window_s)
    window_values = [value for at, value in samples if 0 <= at <= window_s]
    if not window_values:
        return None
    breaks = [((began_s + ended_s) / 2, None) for began_s, ended_s in gaps]
    kept = sorted([*downsample(samples, MAX_POINTS), *breaks], key=itemgetter(0))
    unknown_s = sum(max(0.0, min(ended_s, window_s) - max(began_s, 0.0)) for began_s, ended_s in gaps)
    return Timeline(
        device=device,
        name=name,
        unit=TIMELINE_QUANTITIES[name].unit,
        window_s=window_s,
        times_s=tuple(at for at, _ in kept),
        values=tuple(value for _, value in kept),
        unknown_s=unknown_s,
        unknown_reason=(series.reason or "") if unknown_s else "",
        samples=len(window_values),
        mean=fmean(window_values),
        least=min(window_values),
        most=max(window_values),
    )


def find_gaps(times_s: Sequence[float], interval_s: float, window_s: float) -> list[Gap]:
    """Where samples are too far apart, or from the ends of the window.

    Args:
        times_s: Of the known samples, in seconds since the window began, in order; at least one.
        interval_s: The time from one sample to the next that the sampler aims at.
        window_s: The length of the window.

    Returns:
        The beginning and the end of each gap.
    """
    usual_s = [late_s - early_s for early_s, late_s in pairwise(times_s)]
    longest_s = MAX_SPACING * max(interval_s, median(usual_s) if usual_s else 0.0)
    moments_s = (min(0.0, times_s[0]), *times_s, max(window_s, times_s[-1]))
    return [(early_s, late_s) for early_s, late_s in pairwise(moments_s) if late_s - early_s > longest_s]


def counter_rates(samples: Samples) -> Samples:
    """The growth of a counter per second between each two samples, at the moment in their middle."""
    return [
        ((early_s + late_s) / 2, (high - low) / (late_s - early_s))
        for (early_s, low), (late_s, high) in pairwise(samples)
        if late_s > early_s
    ]


def downsample(samples: Samples, most: int) -> Samples:
    """At most ``most`` samples: the minimum and the maximum of equal intervals, so that no peak is lost."""
    if len(samples) <= most:
        return samples
    stretches = most // 2
    edges = [number * len(samples) // stretches for number in range(stretches + 1)]
    kept: Samples = []
    for first, last in pairwise(edges):
        stretch = samples[first:last]
        ends = {min(stretch, key=lambda sample: sample[1]), max(stretch, key=lambda sample: sample[1])}
        kept += sorted(ends)
    return kept
