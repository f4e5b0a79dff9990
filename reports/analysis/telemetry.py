"""The readings of a trial from the samples of its nodes over the measured window; or why they are unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.core.machine import find_node
from bench.core.records import RankRecord, Reading
from bench.core.telemetry import HOST, LIVE, NodeTelemetry
from reports.analysis.telemetry_window import TelemetryWindow, ValueOrReason
from reports.analysis.units import energy_unit

ENERGY_READINGS = ("cpu_energy", "gpu_energy")
"""The readings of energy per sample (byte, element), in joules."""


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
    step_s = max(rank.mean_step_s for rank in ranks)
    windows = [TelemetryWindow(node, step_s) for node in nodes]
    return (
        *_rank_readings(ranks),
        *_host_readings(ranks, windows, throughput),
        *_gpu_readings(ranks, windows, throughput),
    )


def _rank_readings(ranks: Sequence[RankRecord]) -> list[Reading]:
    # One of no length is that of a damaged record.
    rank_windows = [rank.window for rank in ranks if rank.window and rank.window.ended_s > rank.window.began_s]
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
