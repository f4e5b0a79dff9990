"""What a node's samples say about the measured window: means, peaks and rates, each known or unknown with its reason.

A gauge is averaged over the samples inside the window. A counter's growth is taken between the window's ends, the
values there interpolated between the samples on either side.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

from bench.core.records import RankRecord, Reading
from bench.core.telemetry import HOST, NodeTelemetry, Series
from reports.analysis.throughput import throughput_of

MIN_SAMPLES = 3
ENERGY_READINGS = ("cpu_energy", "gpu_energy")
"""The readings that say what a sample (a byte, an element) costs in joules."""


class ValueOrReason(NamedTuple):
    """A number, or ``None`` and why."""

    value: float | None
    reason: str | None = None


class TelemetryWindow:
    """One node's telemetry, asked by device and name."""

    def __init__(self, node: NodeTelemetry) -> None:
        self.node = node
        self.window_s = node.ended_s - node.began_s
        self._series = {(series.device, series.name): series for series in node.series}

    def series(self, device: str, name: str) -> Series | None:
        return self._series.get((device, name))

    def values_in_window(self, device: str, name: str) -> list[float]:
        """The known samples of the window."""
        found = self.series(device, name)
        if found is None:
            return []
        return [
            value
            for at, value in zip(found.times_s, found.values, strict=True)
            if value is not None and self.node.began_s <= at <= self.node.ended_s
        ]

    def mean(self, device: str, name: str) -> ValueOrReason:
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(fmean(self.values_in_window(device, name)))

    def peak(self, device: str, name: str) -> ValueOrReason:
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(max(self.values_in_window(device, name)))

    def rate(self, device: str, name: str) -> ValueOrReason:
        """The growth of a counter per second of the window."""
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(self.growth(device, name) / self.window_s)

    def growth(self, device: str, name: str) -> float:
        """The growth of a counter over the window, 0 where nothing is known of it; however few samples there are."""
        found = self.series(device, name)
        known = (
            [(at, value) for at, value in zip(found.times_s, found.values, strict=True) if value is not None]
            if found
            else []
        )
        if len(known) < 2:
            return 0.0
        first, last = (_interpolate(known, edge) for edge in (self.node.began_s, self.node.ended_s))
        covered_s = min(known[-1][0], self.node.ended_s) - max(known[0][0], self.node.began_s)
        # Where sampling began late or ended early, what it covered speaks for the rest.
        return (last - first) * self.window_s / covered_s if covered_s > 0 else 0.0

    def coverage(self) -> tuple[int, float]:
        """How many samples fell into the window, and the share of it that lies between the first and the last."""
        times = {at for series in self.node.series for at in series.times_s}
        times_in_window = sorted(at for at in times if self.node.began_s <= at <= self.node.ended_s)
        return len(times_in_window), (times_in_window[-1] - times_in_window[0]) / self.window_s if len(
            times_in_window
        ) > 1 and self.window_s > 0 else 0.0

    def _unknown_reason(self, device: str, name: str) -> str | None:
        found = self.series(device, name)
        if found is None:
            return "; ".join(self.node.problems) or "not sampled"
        known = len(self.values_in_window(device, name))
        if known >= MIN_SAMPLES:
            return None
        if found.reason and known == 0:
            return found.reason
        return f"{known} samples in a window of {self.window_s:.2g} s: too few"


def _interpolate(known: Sequence[tuple[float, float]], moment_s: float) -> float:
    """The value of a counter at a moment: on the line between its neighbours, else the nearest's."""
    after = bisect_right(known, moment_s, key=itemgetter(0))
    if after in (0, len(known)):
        return known[min(after, len(known) - 1)][1]
    (early_s, low), (late_s, high) = known[after - 1], known[after]
    return low + (high - low) * (moment_s - early_s) / (late_s - early_s)


def gpus_of(node: NodeTelemetry, ranks: Sequence[RankRecord]) -> list[str]:
    """The GPUs that the ranks on this node computed on; all that were sampled where no rank names one."""
    sampled = [device.id for device in node.devices if device.id != HOST]
    used = {rank.gpu for rank in ranks if rank.gpu and rank.host == node.host}
    return [device for device in sampled if device in used] if any(rank.gpu for rank in ranks) else sampled


def usage_of(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry]) -> tuple[Reading, ...]:
    """What one trial used during its window: of its ranks, of its hosts, of its GPUs; and energy by unit of work."""
    if not ranks:
        return ()
    views = [TelemetryWindow(node) for node in nodes]
    return (*_rank_readings(ranks), *_host_readings(ranks, views), *_gpu_readings(ranks, views))


def _rank_readings(ranks: Sequence[RankRecord]) -> list[Reading]:
    windows = [rank.window for rank in ranks if rank.window is not None]
    peaks = [rank.memory_peak_bytes for rank in ranks if rank.memory_peak_bytes is not None]
    busy = fmean(window.cpu_s / (window.ended_s - window.began_s) for window in windows) if windows else None
    return [
        Reading(name="rank_cpu", value=busy, unit="cores", reason=None if windows else "not recorded"),
        Reading(
            name="rank_memory_peak", value=max(peaks, default=None), unit="B", reason=None if peaks else "not recorded"
        ),
    ]


def _host_readings(ranks: Sequence[RankRecord], views: Sequence[TelemetryWindow]) -> list[Reading]:
    if not views:
        return []
    return [
        _reading("host_cpu_busy", "cores", [view.rate(HOST, "cpu_busy_s") for view in views], fmean),
        _reading("cpu_steal", "cores", [view.rate(HOST, "cpu_steal_s") for view in views], max),
        _reading("cpu_frequency", "Hz", [view.mean(HOST, "cpu_frequency_hz") for view in views], min),
        _reading("network", "B/s", [view.rate(HOST, "network_bytes") for view in views], sum),
        _reading("loopback", "B/s", [view.rate(HOST, "loopback_bytes") for view in views], sum),
        _energy("cpu_energy", ranks, [view.rate(HOST, "cpu_energy_j") for view in views]),
    ]


def _gpu_readings(ranks: Sequence[RankRecord], views: Sequence[TelemetryWindow]) -> list[Reading]:
    devices = [(view, device) for view in views for device in gpus_of(view.node, ranks)]
    if not devices:
        reason = "; ".join(dict.fromkeys(problem for view in views for problem in view.node.problems))
        return [Reading(name="gpu_utilization", value=None, unit="1", reason=reason)] if reason else []
    return [
        _reading("gpu_utilization", "1", [view.mean(device, "utilization") for view, device in devices], fmean),
        _reading("gpu_memory_peak", "B", [view.peak(device, "memory_bytes") for view, device in devices], max),
        _reading("gpu_power", "W", [view.mean(device, "power_w") for view, device in devices], sum),
        _reading("gpu_temperature_peak", "°C", [view.peak(device, "temperature_c") for view, device in devices], max),
        _reading("gpu_sm_clock", "Hz", [view.mean(device, "sm_clock_hz") for view, device in devices], fmean),
        _reading("gpu_sm_activity", "1", [view.mean(device, "sm_activity") for view, device in devices], fmean),
        _reading("gpu_tensor_activity", "1", [view.mean(device, "tensor_activity") for view, device in devices], fmean),
        _reading("gpu_dram_activity", "1", [view.mean(device, "dram_activity") for view, device in devices], fmean),
        _reading("gpu_pcie", "B/s", [view.rate(device, "pcie_bytes") for view, device in devices], sum),
        _reading("gpu_nvlink", "B/s", [view.rate(device, "nvlink_bytes") for view, device in devices], sum),
        _energy("gpu_energy", ranks, [view.rate(device, "energy_j") for view, device in devices]),
    ]


def _reading(name: str, unit: str, found: Sequence[ValueOrReason], combine: object) -> Reading:
    """One number over all devices; unknown where it is for one of them, with that one's reason."""
    missing = next((device_value for device_value in found if device_value.value is None), None)
    if missing is not None:
        return Reading(name=name, value=None, unit=unit, reason=missing.reason)
    assert callable(combine)
    return Reading(name=name, value=combine([device_value.value for device_value in found]), unit=unit)


def _energy(name: str, ranks: Sequence[RankRecord], power_w: Sequence[ValueOrReason]) -> Reading:
    """Joules by sample (or byte, or element): the power of all devices ÷ the throughput of all ranks."""
    unit = {"samples": "J/sample", "bytes": "J/B", "elements": "J/element"}[ranks[0].unit]
    total = _reading(name, unit, power_w, sum)
    if total.value is None:
        return total
    return total.model_copy(update={"value": total.value / throughput_of(ranks)})
