"""What the sampler of a node records: samples over time, and their cut to a measured window.

A recording is a file of JSON lines: one :class:`Header`, then :class:`Tick` and :class:`ProcessCheck` lines in the
order of time. An incomplete line, as a killed sampler leaves it, is ignored. Times are seconds of the node's monotonic
clock, which the ranks on that node share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import ValidationError

from bench.core.bounds import MAX_WORK, Bytes, Count, Duration, Measured, Moment, RankNumber
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeIdentity

FORMAT = 1
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

    @property
    def identity(self) -> NodeIdentity:
        return NodeIdentity(self.host, self.node, self.boot_id)


class Tick(FrozenModel):
    """The samples of one moment."""

    at_s: Moment
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

    @property
    def identity(self) -> NodeIdentity:
        return NodeIdentity(self.host, self.node, self.boot_id)


class Recording(NamedTuple):
    """A complete recording."""

    header: Header
    ticks: tuple[Tick, ...]
    checks: tuple[ProcessCheck, ...] = ()


def read_recording(lines: Iterable[str]) -> Recording:
    """Parse the lines of a recording; incomplete lines after the header are ignored.

    Raises:
        ValueError: If the first line is not a header of a known format.
    """
    rest = iter(lines)
    try:
        header = Header.model_validate_json(next(rest, ""))
    except ValidationError:
        raise ValueError("not a telemetry recording: its first line is no header") from None
    if header.format != FORMAT:
        raise ValueError(f"a telemetry recording of format {header.format}; this one reads {FORMAT}")
    ticks, checks = [], []
    for line in rest:
        try:
            if '"checked_at_s"' in line:
                checks.append(ProcessCheck.model_validate_json(line))
            else:
                ticks.append(Tick.model_validate_json(line))
        except ValidationError:
            continue
    return Recording(header, tuple(ticks), tuple(checks))


def _finite(sample: Sample) -> Sample:
    """The sample; an unknown one where its probe returned no number."""
    if sample.value is None or abs(sample.value) <= MAX_WORK:
        return sample
    return sample._replace(value=None, reason=f"the probe read {sample.value}")


def longest_gap_s(recording: Recording, began_s: float, ended_s: float) -> float:
    """The longest time without a sample that reaches into the window from ``began_s`` to ``ended_s``, in seconds."""
    before = max((tick.at_s for tick in recording.ticks if tick.at_s < began_s), default=began_s)
    after = min((tick.at_s for tick in recording.ticks if tick.at_s > ended_s), default=ended_s)
    inside = (tick.at_s for tick in recording.ticks if began_s <= tick.at_s <= ended_s)
    return max(later - earlier for earlier, later in pairwise((before, *inside, after)))


def cut_to_window(recording: Recording, began_s: float, ended_s: float, incomplete: str = "") -> NodeTelemetry:
    """The part of a recording that belongs to the window from ``began_s`` to ``ended_s``.

    Args:
        recording: The recording.
        began_s: By the node's clock.
        ended_s: By the node's clock.
        incomplete: See :attr:`NodeTelemetry.incomplete`.
    """
    inside = [number for number, tick in enumerate(recording.ticks) if began_s <= tick.at_s <= ended_s]
    before = sum(tick.at_s < began_s for tick in recording.ticks)
    first, last = (inside[0], inside[-1]) if inside else (before, before - 1)
    ticks = recording.ticks[max(0, first - 1) : last + 2]
    samples_by_series: dict[tuple[str, str], list[tuple[float, float | None, str | None]]] = {}
    for tick in ticks:
        for device, name, value, reason in map(_finite, tick.readings):
            samples_by_series.setdefault((device, name), []).append((tick.at_s, value, reason))
    processes = {(process.device, process.pid): process for check in recording.checks for process in check.processes}
    problems = [*recording.header.problems, *(problem for check in recording.checks for problem in check.problems)]
    return NodeTelemetry(
        host=recording.header.host,
        source=recording.header.source,
        interval_s=recording.header.interval_s,
        began_s=began_s,
        ended_s=ended_s,
        devices=recording.header.devices,
        series=tuple(
            Series(
                device=device,
                name=name,
                times_s=tuple(at for at, _, _ in samples),
                values=tuple(value for _, value, _ in samples),
                reason=next((reason for _, _, reason in reversed(samples) if reason), None),
            )
            for (device, name), samples in samples_by_series.items()
        ),
        processes=tuple(processes.values()),
        problems=tuple(dict.fromkeys(problems)),
        incomplete=incomplete,
        node=recording.header.node,
        boot_id=recording.header.boot_id,
    )
