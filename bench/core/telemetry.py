"""What the sampler of a node records: quantities, their samples over time, and the lines that hold them.

Times are seconds of the node's monotonic clock, which the ranks on that node share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from bench.core.bounds import MAX_WORK, Bytes, Count, Duration, Measured, Moment, RankNumber
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeIdentity
from bench.core.update_timing import UpdateTiming

FORMAT = 2
"""Format 1 has no times of single samples and no update timings; it is read too."""
HOST = "host"
"""The device id of the node itself."""

LIVE = "live"
"""The source of a recording that was no replay."""

QuantityKind = Literal["gauge", "counter"]


class Quantity(NamedTuple):
    """What a sample measures. A ``counter`` only grows, and its growth counts; a ``gauge`` counts by itself."""

    unit: str
    kind: QuantityKind
    always_grows: bool = False
    """A counter that grows as long as its device is on. One that stands still counts nothing, and is unknown."""


QUANTITIES: Mapping[str, Quantity] = {
    # Of the host. Busy and stolen time are summed over the cores that the job may use.
    "cores": Quantity("cores", "gauge"),
    "cpu_busy_s": Quantity("s", "counter", always_grows=True),
    "job_cpu_s": Quantity("s", "counter"),
    "cpu_steal_s": Quantity("s", "counter"),
    # Only where the job has a CPU quota: in periods of its control group.
    "cpu_quota_cores": Quantity("cores", "gauge"),
    "cpu_periods": Quantity("periods", "counter"),
    "cpu_throttled_periods": Quantity("periods", "counter"),
    "cpu_throttled_s": Quantity("s", "counter"),
    "cpu_frequency_hz": Quantity("Hz", "gauge"),
    "network_bytes": Quantity("B", "counter"),
    "loopback_bytes": Quantity("B", "counter"),
    "swapped_bytes": Quantity("B", "counter"),
    "cpu_energy_j": Quantity("J", "counter", always_grows=True),
    # Of one GPU.
    "utilization": Quantity("1", "gauge"),
    "memory_bytes": Quantity("B", "gauge"),
    "power_w": Quantity("W", "gauge"),
    "temperature_c": Quantity("°C", "gauge"),
    "sm_clock_hz": Quantity("Hz", "gauge"),
    "memory_clock_hz": Quantity("Hz", "gauge"),
    "energy_j": Quantity("J", "counter", always_grows=True),
    "power_capped_s": Quantity("s", "counter"),
    "thermal_throttled_s": Quantity("s", "counter"),
    "power_brake_s": Quantity("s", "counter"),
    "xid_errors": Quantity("events", "counter"),
    "double_bit_errors": Quantity("errors", "counter"),
    "pcie_bytes": Quantity("B", "counter"),
    "nvlink_bytes": Quantity("B", "counter"),
    "sm_activity": Quantity("1", "gauge"),
    "tensor_activity": Quantity("1", "gauge"),
    "dram_activity": Quantity("1", "gauge"),
}


class Sample(NamedTuple):
    """One value of one device at one moment. An unknown value is ``None`` with a reason."""

    device: str
    name: str
    """A key of :data:`QUANTITIES`."""
    value: float | None
    reason: str | None = None
    at_s: Moment | None = None
    """When it was read; ``None``: with the others of its tick, at the tick's time."""


def known_number(sample: Sample) -> Sample:
    """The sample; an unknown one where its value is NaN, infinite, or beyond what a record holds."""
    if sample.value is None or abs(sample.value) <= MAX_WORK:
        return sample
    return sample._replace(value=None, reason=f"it was read as {sample.value:g}")


class Device(FrozenModel):
    """A device that is sampled: the host, a GPU (``id`` is its UUID) or a MIG slice of one."""

    id: str
    name: str
    part_of: str | None = None
    """The UUID of the GPU that a MIG slice belongs to."""


class GpuProcess(FrozenModel):
    """A process that computes on a GPU."""

    device: str
    pid: Count
    name: str | None = None
    memory_bytes: Bytes | None = None
    draws: bool = False
    """It also draws on the GPU, as the server of a display does."""
    ours: bool | None = None
    """Whether it belonged to the trial when it was listed; ``None``: that is not known, see :attr:`relation`."""
    relation: str = ""
    """By what it belongs to the trial or does not, or why that is not known; empty in old recordings."""


class Header(FrozenModel):
    """The first line of a recording."""

    format: int = FORMAT
    host: str
    source: str
    """``live``, or the recording that was replayed."""
    interval_s: Duration
    devices: tuple[Device, ...]
    problems: tuple[str, ...] = ()
    """Why groups of devices could not be sampled (no NVML library, no permission …)."""
    node: RankNumber | None = None
    """The number of the node in the trial; ``None`` in old recordings."""
    boot_id: str | None = None
    update_timings: tuple[UpdateTiming, ...] = ()
    """Of the readings for which it is known."""

    @property
    def identity(self) -> NodeIdentity:
        return NodeIdentity(self.host, self.node, self.boot_id)


class Tick(FrozenModel):
    """The samples that were taken together."""

    at_s: Moment
    """When the last of them had been read."""
    readings: tuple[Sample, ...]


class ProcessCheck(FrozenModel):
    """The processes that computed on the GPUs at a moment outside the measured window."""

    checked_at_s: Moment
    processes: tuple[GpuProcess, ...]
    problems: tuple[str, ...] = ()


class Series(FrozenModel):
    """One quantity of one device: the samples inside a window, and the nearest one on either side."""

    device: str
    name: str
    times_s: tuple[Moment, ...]
    values: tuple[Measured | None, ...]
    reason: str | None = None
    """Why values are missing: the last reason."""


class NodeTelemetry(FrozenModel):
    """What was sampled on one node, cut to the measured window of the ranks on it."""

    host: str
    source: str
    interval_s: Duration
    began_s: Moment
    ended_s: Moment
    devices: tuple[Device, ...]
    series: tuple[Series, ...]
    processes: tuple[GpuProcess, ...] = ()
    problems: tuple[str, ...] = ()
    incomplete: str = ""
    """Why the samples don't tell what happened during the whole window; empty where they do."""
    node: RankNumber | None = None
    boot_id: str | None = None
    update_timings: tuple[UpdateTiming, ...] = ()
    """Of the readings for which it is known; empty in records of before it was recorded."""

    @property
    def identity(self) -> NodeIdentity:
        return NodeIdentity(self.host, self.node, self.boot_id)
