"""What may have spoilt a trial's number: other people's work, heat, faults, a machine that swaps or is shared.

The serious ones make the trial ``invalid``: its number is about something else than the case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.core.records import Condition, RankRecord
from bench.core.telemetry import HOST, NodeTelemetry
from reports.analysis.telemetry import TelemetryWindow, gpus_of

MAX_STEAL_SHARE = 0.02
MAX_FOREIGN_SHARE = 0.1
MAX_HOST_CLOCK_CHANGE = 0.1
MAX_GPU_CLOCK_CHANGE = 0.05
MAX_THROTTLED_SHARE = 0.01
MAX_SWAP_BYTES_PER_S = 2**20


def find_conditions(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry]) -> tuple[Condition, ...]:
    """What was seen on the nodes during the measured window (processes on GPUs: before and after it)."""
    found: list[Condition] = []
    for node in nodes:
        view = TelemetryWindow(node)
        if view.window_s <= 0:
            continue
        used = gpus_of(node, ranks)
        found += _host_conditions(view, [rank for rank in ranks if rank.host == node.host])
        found += _foreign_gpu_processes(node, used)
        for device in used:
            found += _gpu_conditions(view, device)
    return tuple(found)


def _host_conditions(view: TelemetryWindow, ranks: Sequence[RankRecord]) -> Iterator[Condition]:
    host, seconds = view.node.host, view.window_s
    stolen = view.growth(HOST, "cpu_steal_s") / seconds
    cores = view.values_in_window(HOST, "cores")
    core_count = max(cores, default=float(len({core for rank in ranks for core in rank.cores}) or 1))
    if stolen > MAX_STEAL_SHARE * core_count:
        yield Condition(
            name="cpu_steal", seen=f"{host}: the hypervisor took {stolen:.2f} of {core_count:.0f} cores away"
        )
    foreign = (view.growth(HOST, "cpu_busy_s") - view.growth(HOST, "job_cpu_s")) / seconds
    known = view.values_in_window(HOST, "cpu_busy_s") and view.values_in_window(HOST, "job_cpu_s")
    if known and foreign > MAX_FOREIGN_SHARE * core_count:
        yield Condition(
            name="host_load", seen=f"{host}: other processes kept {foreign:.2f} of {core_count:.0f} cores busy"
        )
    yield from _clock_changed(view, HOST, "cpu_frequency_hz", MAX_HOST_CLOCK_CHANGE, "cpu_clock_moved", host)
    swapped = view.growth(HOST, "swapped_bytes")
    if swapped > 0:
        rate = swapped / seconds
        description = f"{host}: {swapped / 2**20:.1f} MiB went from or to swap"
        yield Condition(name="swapping", seen=description, serious=rate > MAX_SWAP_BYTES_PER_S)


def _foreign_gpu_processes(node: NodeTelemetry, used: Sequence[str]) -> Iterator[Condition]:
    parents = {device.part_of for device in node.devices if device.id in used and device.part_of}
    others = [process for process in node.processes if process.device in used or process.device in parents]
    if others:
        named = ", ".join(f"{process.pid}{f' ({process.name})' if process.name else ''}" for process in others[:3])
        description = f"{node.host}: not ours, computing on the GPUs: {named}"
        yield Condition(name="foreign_gpu_process", seen=description, serious=True)


def _gpu_conditions(view: TelemetryWindow, device: str) -> Iterator[Condition]:
    name = f"{view.node.host}, {device[:12]}"
    for counter, flag, cause in (
        ("thermal_throttled_s", "gpu_thermal_throttling", "slowed down by heat"),
        ("power_brake_s", "gpu_power_brake", "slowed down by its power supply"),
    ):
        share = view.growth(device, counter) / view.window_s
        if share > MAX_THROTTLED_SHARE:
            yield Condition(name=flag, seen=f"{name}: {cause} {share:.0%} of the time", serious=True)
    capped = view.growth(device, "power_capped_s") / view.window_s
    if capped > MAX_THROTTLED_SHARE:
        yield Condition(name="gpu_power_capped", seen=f"{name}: at its power limit {capped:.0%} of the time")
    for counter, flag, what in (
        ("xid_errors", "gpu_xid", "Xid errors"),
        ("double_bit_errors", "gpu_memory_errors", "double-bit memory errors"),
    ):
        count = _counter_increase(view, device, counter)
        if count:
            yield Condition(name=flag, seen=f"{name}: {count:.0f} {what}", serious=True)
    yield from _clock_changed(view, device, "sm_clock_hz", MAX_GPU_CLOCK_CHANGE, "gpu_clock_moved", name)


def _counter_increase(view: TelemetryWindow, device: str, counter: str) -> float:
    """How much a counter of events rose from the sample before the window to the one after it."""
    found = view.series(device, counter)
    known = [value for value in found.values if value is not None] if found else []
    return known[-1] - known[0] if known else 0.0


def _clock_changed(
    view: TelemetryWindow, device: str, name: str, share: float, flag: str, location: str
) -> Iterator[Condition]:
    clocks = view.values_in_window(device, name)
    if clocks and min(clocks) < (1 - share) * max(clocks):
        description = f"{location}: the clock went between {min(clocks) / 1e9:.2f} and {max(clocks) / 1e9:.2f} GHz"
        yield Condition(name=flag, seen=description)
