"""What a trial's devices did over time, around the measured window: samples made ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Literal, NamedTuple

from bench.records import Trial, Value
from bench.telemetry import HOST, QUANTITIES, NodeTelemetry, Series
from reports.analysis.telemetry import gpus_of

MOST_POINTS = 500


class Timeline(Value):
    """One quantity of one device. Times are seconds since the window began; the first and last may lie outside it."""

    device: str
    """``node-0``, or ``node-0 GPU 1``."""
    name: str
    """A key of :data:`SHOWN`."""
    unit: str
    window_s: float
    times_s: tuple[float, ...]
    values: tuple[float, ...]
    """At most :data:`MOST_POINTS`: of a longer recording, the lowest and the highest of each stretch."""
    samples: int
    """In the window; so are the next three, over all of them."""
    mean: float
    least: float
    most: float


class Shown(NamedTuple):
    """What is drawn of a sampled series; of a counter its growth per second."""

    series: str
    unit: str
    on: Literal["host", "gpu"]


SHOWN = {
    "job_cpu": Shown("job_cpu_s", "cores", "host"),
    "network": Shown("network_bytes", "B/s", "host"),
    "loopback": Shown("loopback_bytes", "B/s", "host"),
    "gpu_utilization": Shown("utilization", "1", "gpu"),
    "gpu_power": Shown("power_w", "W", "gpu"),
    "gpu_memory": Shown("memory_bytes", "B", "gpu"),
}

Samples = list[tuple[float, float]]


def timelines_of(good: Sequence[Trial]) -> tuple[Timeline, ...]:
    """Of the last trial that was sampled; empty where none was."""
    trial = next((trial for trial in reversed(good) if trial.telemetry), None)
    if trial is None:
        return ()
    return tuple(found for node in trial.telemetry for found in _of_node(node, gpus_of(node, trial.ranks)))


def _of_node(node: NodeTelemetry, gpus: Sequence[str]) -> Iterator[Timeline]:
    series = {(found.device, found.name): found for found in node.series}
    sampled = [device.id for device in node.devices if device.id != HOST]
    for name, shown in SHOWN.items():
        for device in (HOST,) if shown.on == "host" else gpus:
            found = series.get((device, shown.series))
            label = node.host if device == HOST else f"{node.host} GPU {sampled.index(device)}"
            made = _timeline(label, name, found, node) if found else None
            if made is not None:
                yield made


def _timeline(device: str, name: str, series: Series, node: NodeTelemetry) -> Timeline | None:
    """``None`` where no sample of the window is known."""
    samples = [
        (at - node.began_s, value) for at, value in zip(series.times_s, series.values, strict=True) if value is not None
    ]
    if QUANTITIES[series.name].kind == "counter":
        samples = rates(samples)
    window_s = node.ended_s - node.began_s
    inside = [value for at, value in samples if 0 <= at <= window_s]
    if not inside:
        return None
    kept = thin(samples, MOST_POINTS)
    return Timeline(
        device=device, name=name, unit=SHOWN[name].unit, window_s=window_s, times_s=tuple(at for at, _ in kept),
        values=tuple(value for _, value in kept), samples=len(inside), mean=fmean(inside), least=min(inside),
        most=max(inside),
    )  # fmt: skip


def rates(samples: Samples) -> Samples:
    """The growth of a counter per second between two samples, said of the moment in their middle."""
    return [
        ((early_s + late_s) / 2, (high - low) / (late_s - early_s))
        for (early_s, low), (late_s, high) in pairwise(samples)
        if late_s > early_s
    ]


def thin(samples: Samples, most: int) -> Samples:
    """At most so many: the lowest and the highest of equal stretches, so that no peak is lost."""
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
