"""The readings of a trial from its nodes' samples: means, peaks and rates over the measured window, or a reason.

A gauge is averaged over the samples inside the window. The growth of a counter is taken between the ends of the window,
interpolated between the samples on either side.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

from bench.core.machine import find_node
from bench.core.records import RankRecord, Reading
from bench.core.telemetry import HOST, LIVE, QUANTITIES, NodeTelemetry, Series
from reports.analysis.energy import window_power
from reports.analysis.units import energy_unit

MIN_SAMPLES = 3
ENERGY_READINGS = ("cpu_energy", "gpu_energy")
"""The readings of energy per sample (byte, element), in joules."""


class ValueOrReason(NamedTuple):
    """A number, or ``None`` and the reason."""

    value: float | None
    reason: str | None = None


class TelemetryWindow:
    """The telemetry of one node over the measured window, by device and name of the series."""

    def __init__(self, node: NodeTelemetry) -> None:
        self.node = node
        self.window_s = node.ended_s - node.began_s
        self._series = {(series.device, series.name): series for series in node.series}

    def series(self, device: str, name: str) -> Series | None:
        """All samples of a series, those outside the window too."""
        return self._series.get((device, name))

    def values_in_window(self, device: str, name: str) -> list[float]:
        """The known values in the window."""
        series = self.series(device, name)
        if series is None:
            return []
        return [
            value
            for at, value in zip(series.times_s, series.values, strict=True)
            if value is not None and self.node.began_s <= at <= self.node.ended_s
        ]

    def mean(self, device: str, name: str) -> ValueOrReason:
        """The mean of a gauge."""
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(fmean(self.values_in_window(device, name)))

    def peak(self, device: str, name: str) -> ValueOrReason:
        """The maximum of a gauge."""
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(max(self.values_in_window(device, name)))

    def rate(self, device: str, name: str) -> ValueOrReason:
        """The growth of a counter per second of the window."""
        if reason := self._unknown_reason(device, name):
            return ValueOrReason(None, reason)
        growth = self.growth(device, name)
        if growth == 0 and QUANTITIES[name].always_grows:
            return ValueOrReason(None, "its counter does not move here")
        return ValueOrReason(growth / self.window_s)

    def power(self, device: str, name: str) -> ValueOrReason:
        """The mean power over the window by a counter of energy."""
        power = window_power(self.node, device, name)
        return ValueOrReason(power.value, power.reason)

    def growth(self, device: str, name: str) -> float:
        """The growth of a counter over the window, from however few samples; 0 where it is unknown."""
        series = self.series(device, name)
        known = (
            [(at, value) for at, value in zip(series.times_s, series.values, strict=True) if value is not None]
            if series
            else []
        )
        if len(known) < 2:
            return 0.0
        first, last = (_interpolate(known, edge) for edge in (self.node.began_s, self.node.ended_s))
        covered_s = min(known[-1][0], self.node.ended_s) - max(known[0][0], self.node.began_s)
        # Where sampling began late or ended early, the covered part is extrapolated to the window.
        return (last - first) * self.window_s / covered_s if covered_s > 0 else 0.0

    def coverage(self) -> tuple[int, float]:
        """The number of samples in the window, and the share of it between the first and the last of them."""
        times = {at for series in self.node.series for at in series.times_s}
        times_in_window = sorted(at for at in times if self.node.began_s <= at <= self.node.ended_s)
        return len(times_in_window), (times_in_window[-1] - times_in_window[0]) / self.window_s if len(
            times_in_window
        ) > 1 and self.window_s > 0 else 0.0

    def _unknown_reason(self, device: str, name: str) -> str | None:
        if self.node.incomplete:
            return self.node.incomplete
        series = self.series(device, name)
        if series is None:
            return "; ".join(self.node.problems) or "not sampled"
        known = len(self.values_in_window(device, name))
        if known >= MIN_SAMPLES:
            return None
        if series.reason and known == 0:
            return series.reason
        too_few = f"{known} samples in a window of {self.window_s:.2g} s: too few"
        return "; ".join((too_few, *filter(None, (series.reason,)), *self.node.problems))


def _interpolate(known: Sequence[tuple[float, float]], moment_s: float) -> float:
    """The value of a counter at a moment: interpolated between its neighbours, else the nearest one."""
    after = bisect_right(known, moment_s, key=itemgetter(0))
    if after in (0, len(known)):
        return known[min(after, len(known) - 1)][1]
    (early_s, low), (late_s, high) = known[after - 1], known[after]
    return low + (high - low) * (moment_s - early_s) / (late_s - early_s)


def ranks_by_node(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry]) -> list[list[RankRecord]]:
    """The ranks on each of the nodes."""
    identities = [node.identity for node in nodes]
    placed = [(find_node(rank.identity, identities), rank) for rank in ranks]
    return [[rank for place, rank in placed if place == number] for number in range(len(nodes))]


def node_labels(nodes: Sequence[NodeTelemetry]) -> list[str]:
    """What each node is called: its host's name, with the number of the node where names repeat."""
    hosts = [node.host for node in nodes]
    return [
        node.host if hosts.count(node.host) == 1 else f"{node.host} (node {number if node.node is None else node.node})"
        for number, node in enumerate(nodes)
    ]


def gpus_of(node: NodeTelemetry, ranks: Sequence[RankRecord]) -> list[str]:
    """The GPUs of a node that the ranks on it computed on; all sampled ones where no rank names its GPU."""
    sampled = [device.id for device in node.devices if device.id != HOST]
    used = {rank.gpu for rank in ranks if rank.gpu}
    return [device for device in sampled if device in used] if any(rank.gpu for rank in ranks) else sampled


def gpus_in_use(node: NodeTelemetry, ranks: Sequence[RankRecord]) -> list[str]:
    """The GPUs of a node whose state may have affected the ranks on it: none where these computed on CPUs.

    A replayed recording stands in for the devices of the ranks, whatever these are.
    """
    if node.source == LIVE and all(rank.device == "cpu" and rank.gpu is None for rank in ranks):
        return []
    return gpus_of(node, ranks)


def usage_of(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry], throughput: float) -> tuple[Reading, ...]:
    """What one trial used during its window: of its ranks, its hosts and its GPUs; and energy per unit of work.

    Args:
        ranks: the records of all ranks, at least one.
        nodes: the telemetry of each node that was sampled.
        throughput: of all ranks together, in units of work per second.
    """
    windows = [TelemetryWindow(node) for node in nodes]
    return (
        *_rank_readings(ranks),
        *_host_readings(ranks, windows, throughput),
        *_gpu_readings(ranks, windows, throughput),
    )


def _rank_readings(ranks: Sequence[RankRecord]) -> list[Reading]:
    rank_windows = [rank.window for rank in ranks if rank.window is not None]
    peaks = [rank.memory_peak_bytes for rank in ranks if rank.memory_peak_bytes is not None]
    busy = fmean(window.cpu_s / (window.ended_s - window.began_s) for window in rank_windows) if rank_windows else None
    return [
        Reading(name="rank_cpu", value=busy, unit="cores", reason=None if rank_windows else "not recorded"),
        Reading(
            name="rank_memory_peak", value=max(peaks, default=None), unit="B", reason=None if peaks else "not recorded"
        ),
    ]


class DeviceReading(NamedTuple):
    """How one reading of a trial follows from a sampled series of its devices."""

    name: str
    unit: str
    series: str
    of: Callable[[TelemetryWindow, str, str], ValueOrReason]
    combine: Callable[[list[float]], float]
    """Over all devices."""


HOST_READINGS = (
    DeviceReading("host_cpu_busy", "cores", "cpu_busy_s", TelemetryWindow.rate, fmean),
    DeviceReading("cpu_steal", "cores", "cpu_steal_s", TelemetryWindow.rate, max),
    DeviceReading("cpu_frequency", "Hz", "cpu_frequency_hz", TelemetryWindow.mean, min),
    DeviceReading("network", "B/s", "network_bytes", TelemetryWindow.rate, sum),
    DeviceReading("loopback", "B/s", "loopback_bytes", TelemetryWindow.rate, sum),
)
HOST_POWER = DeviceReading("cpu_energy", "W", "cpu_energy_j", TelemetryWindow.power, sum)
GPU_READINGS = (
    DeviceReading("gpu_utilization", "1", "utilization", TelemetryWindow.mean, fmean),
    DeviceReading("gpu_memory_peak", "B", "memory_bytes", TelemetryWindow.peak, max),
    DeviceReading("gpu_power", "W", "power_w", TelemetryWindow.mean, sum),
    DeviceReading("gpu_temperature_peak", "°C", "temperature_c", TelemetryWindow.peak, max),
    DeviceReading("gpu_sm_clock", "Hz", "sm_clock_hz", TelemetryWindow.mean, fmean),
    DeviceReading("gpu_power_capped", "1", "power_capped_s", TelemetryWindow.rate, max),
    DeviceReading("gpu_sm_activity", "1", "sm_activity", TelemetryWindow.mean, fmean),
    DeviceReading("gpu_tensor_activity", "1", "tensor_activity", TelemetryWindow.mean, fmean),
    DeviceReading("gpu_dram_activity", "1", "dram_activity", TelemetryWindow.mean, fmean),
    DeviceReading("gpu_pcie", "B/s", "pcie_bytes", TelemetryWindow.rate, sum),
    DeviceReading("gpu_nvlink", "B/s", "nvlink_bytes", TelemetryWindow.rate, sum),
)
GPU_POWER = DeviceReading("gpu_energy", "W", "energy_j", TelemetryWindow.power, sum)

Devices = Sequence[tuple[TelemetryWindow, str]]


def _host_readings(ranks: Sequence[RankRecord], windows: Sequence[TelemetryWindow], throughput: float) -> list[Reading]:
    if not windows:
        return []
    hosts = [(window, HOST) for window in windows]
    return [
        *(_reading(spec, hosts) for spec in HOST_READINGS),
        _energy(_reading(HOST_POWER, hosts), ranks[0].unit, throughput),
    ]


def _gpu_readings(ranks: Sequence[RankRecord], windows: Sequence[TelemetryWindow], throughput: float) -> list[Reading]:
    here = ranks_by_node(ranks, [window.node for window in windows])
    gpus = [
        (window, gpu) for window, on_node in zip(windows, here, strict=True) for gpu in gpus_of(window.node, on_node)
    ]
    if not gpus:
        reason = "; ".join(dict.fromkeys(problem for window in windows for problem in window.node.problems))
        return [Reading(name="gpu_utilization", value=None, unit="1", reason=reason)] if reason else []
    return [
        *(_reading(spec, gpus) for spec in GPU_READINGS),
        _energy(_reading(GPU_POWER, gpus), ranks[0].unit, throughput),
    ]


def _reading(spec: DeviceReading, devices: Devices) -> Reading:
    """One number over all devices; unknown where it is for one of them, with that one's reason."""
    values = []
    for window, device in devices:
        value, reason = spec.of(window, device, spec.series)
        if value is None:
            return Reading(name=spec.name, value=None, unit=spec.unit, reason=reason)
        values.append(value)
    return Reading(name=spec.name, value=spec.combine(values), unit=spec.unit)


def _energy(power: Reading, amount_unit: str, throughput: float) -> Reading:
    """Joules per unit of work: the power of all devices ÷ the throughput of all ranks."""
    value = None if power.value is None else power.value / throughput
    return power.model_copy(update={"unit": energy_unit(amount_unit), "value": value})
