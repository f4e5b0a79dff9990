"""Telemetry of one H200 under three loads, made up after what was measured on one: no recording of a device.

The readings, how often they change, over what they average and how their calls fail are those that NVML gave on an
H200 (driver 580.159.04, NVML 13.580); powers, clocks and activities are in the ranges that were seen there:

- ``launch_bound``: an eager multilayer perceptron at batch 512, 1,137 steps a second: the GPU waits for the host;
- ``power_capped``: matrix products of bf16 numbers at full load, at the software power cap for 82 % of the time;
- ``dask``: the same perceptron, whose ranks exchange through the host: computing and waiting in turn, every 0.2 s.

``python -m tests.support.h200_telemetry FOLDER`` writes them, for ``sweep --telemetry replay:FOLDER/NAME.jsonl``.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from bench.core.recording import Recording, cut_to_window
from bench.core.telemetry import HOST, Device, Header, NodeTelemetry, ProcessCheck, Sample, Tick
from bench.core.update_timing import UpdateTiming

LoadName = Literal["launch_bound", "power_capped", "dask"]
GPU = "GPU-4b1f0c52-6a0d-4a86-9d0e-1c7b5f2a9e31"
NAME = "NVIDIA H200"
INTERVAL_S = 0.2
LENGTH_S = 60.0
MIB = 2**20
UNSUPPORTED = "not supported by this device"

UPDATES = {
    # The seconds from one value to the next, the seconds that a value is the mean of, and those that a call costs.
    "utilization": (0.2, 0.2, 2.5e-6),
    "power_w": (0.1, 0.0, 5e-6),
    "energy_j": (0.1, 0.0, 3.3e-3),
    "sm_activity": (0.1, 0.2, 47e-6),
    "tensor_activity": (0.1, 0.2, 0.0),
    "dram_activity": (0.1, 0.2, 0.0),
}


class Load(NamedTuple):
    """A load as ranges, from which each value is drawn."""

    utilization: tuple[float, float]
    sm: tuple[float, float]
    tensor: tuple[float, float]
    dram: tuple[float, float]
    power_w: tuple[float, float]
    sm_clock_hz: tuple[float, float]
    temperature_c: tuple[float, float]
    memory_bytes: float
    capped_share: float
    host_cores: float
    gpm_fails_s: tuple[float, float] | None = None
    """While its activities are unknown: from when to when, in seconds."""


LOADS: dict[LoadName, Load] = {
    "launch_bound": Load(
        utilization=(0.16, 0.20),
        sm=(0.03, 0.05),
        tensor=(0.0, 0.0),
        dram=(0.004, 0.008),
        power_w=(121.0, 127.0),
        sm_clock_hz=(1.98e9, 1.98e9),
        temperature_c=(33.0, 34.0),
        memory_bytes=(615 + 562 + 14) * MIB,
        capped_share=0.0,
        host_cores=0.99,
    ),
    "power_capped": Load(
        utilization=(1.0, 1.0),
        sm=(0.96, 0.99),
        tensor=(0.80, 0.86),
        dram=(0.30, 0.36),
        power_w=(684.0, 702.0),
        sm_clock_hz=(1.395e9, 1.62e9),
        temperature_c=(58.0, 63.0),
        memory_bytes=(615 + 562 + 1_536) * MIB,
        capped_share=0.82,
        host_cores=0.35,
    ),
    "dask": Load(
        utilization=(0.05, 0.14),
        sm=(0.01, 0.03),
        tensor=(0.0, 0.0),
        dram=(0.002, 0.006),
        power_w=(112.0, 131.0),
        sm_clock_hz=(1.98e9, 1.98e9),
        temperature_c=(33.0, 34.0),
        memory_bytes=(615 + 562 + 14) * MIB,
        capped_share=0.0,
        host_cores=1.7,
        gpm_fails_s=(6.1, 7.1),
    ),
}


@cache
def recording(name: LoadName) -> Recording:
    """A minute under a load, the same at every call."""
    load = LOADS[name]
    header = Header(
        host="gpu-node",
        source="live",
        interval_s=INTERVAL_S,
        devices=(Device(id=HOST, name="gpu-node"), Device(id=GPU, name=NAME)),
        node=0,
        boot_id="h200",
        update_timings=tuple(
            UpdateTiming(
                device=GPU,
                name=quantity,
                update_s=update_s,
                averages_over_s=averages_s,
                source="measured",
                at_changes=quantity == "energy_j",
            )
            for quantity, (update_s, averages_s, _) in UPDATES.items()
        ),
    )
    checks = tuple(ProcessCheck(checked_at_s=at_s, processes=()) for at_s in (0.0, LENGTH_S))
    return Recording(header, tuple(_ticks(name, load)), checks)


def telemetry(name: LoadName, window_s: float = 2.0, began_s: float = 5.0) -> NodeTelemetry:
    """That minute, cut to a window."""
    return cut_to_window(recording(name), began_s, began_s + window_s)


def write(name: LoadName, path: Path) -> Path:
    """Write the recording of a load as the sampler does, one JSON line each."""
    whole = recording(name)
    lines = (whole.header, whole.checks[0], *whole.ticks, *whole.checks[1:])
    path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines), encoding="utf-8")
    return path


def _ticks(name: LoadName, load: Load) -> Iterator[Tick]:
    energy = list(_energy_changes(name, load))
    for number in range(round(LENGTH_S / INTERVAL_S) + 1):
        began_s = number * INTERVAL_S
        readings = [*_host_samples(load, began_s), *_gpu_samples(name, load, began_s)]
        readings += [sample for sample in energy if sample.at_s and began_s - INTERVAL_S < sample.at_s <= began_s]
        yield Tick(at_s=max(sample.at_s or 0.0 for sample in readings), readings=tuple(readings))


def _host_samples(load: Load, at_s: float) -> Iterator[Sample]:
    values = {"cores": 16.0, "cpu_busy_s": (load.host_cores + 0.06) * at_s, "job_cpu_s": load.host_cores * at_s}
    for quantity, value in values.items():
        yield Sample(HOST, quantity, value, None, at_s)


def _gpu_samples(name: LoadName, load: Load, began_s: float) -> Iterator[Sample]:
    """One tick: each value with the time of its own call."""
    capped_s = load.capped_share * began_s
    values = {
        "utilization": _drawn(name, "utilization", load.utilization, began_s),
        "power_w": _drawn(name, "power_w", load.power_w, began_s),
        "memory_bytes": load.memory_bytes,
        "temperature_c": round(_drawn(name, "temperature_c", load.temperature_c, began_s)),
        "sm_clock_hz": round(_drawn(name, "sm_clock_hz", load.sm_clock_hz, began_s) / 15e6) * 15e6,
        "memory_clock_hz": 3.201e9,
        "power_capped_s": capped_s,
        "thermal_throttled_s": 0.0,
        "power_brake_s": 0.0,
        "xid_errors": 0.0,
        "double_bit_errors": 0.0,
        "sm_activity": _drawn(name, "sm_activity", load.sm, began_s),
        "tensor_activity": _drawn(name, "tensor_activity", load.tensor, began_s),
        "dram_activity": _drawn(name, "dram_activity", load.dram, began_s),
        "nvlink_bytes": None,
    }
    at_s = began_s
    for quantity, value in values.items():
        at_s += UPDATES.get(quantity, (0.0, 0.0, 2e-6))[2]
        reason = _unknown_reason(load, quantity, began_s)
        yield Sample(GPU, quantity, None if reason else value, reason, at_s)


def _unknown_reason(load: Load, quantity: str, began_s: float) -> str | None:
    """A lone passed-through GPU has no NVLink to read; GPM needs two samples that are 0.2 s apart."""
    if quantity == "nvlink_bytes":
        return UNSUPPORTED
    if not quantity.endswith("_activity"):
        return None
    if began_s == 0:
        return "needs two samples"
    fails = load.gpm_fails_s
    return "no answer in time" if fails and fails[0] <= began_s < fails[1] else None


def _energy_changes(name: LoadName, load: Load) -> Iterator[Sample]:
    """The counter at its changes, which are 0.1 s apart, give or take a tenth."""
    energy_j, at_s = 1.7e6, 0.05
    for number in range(round(LENGTH_S / 0.1)):
        length_s = 0.1 + random.Random(f"{name} change {number}").uniform(-0.01, 0.01)
        energy_j += _drawn(name, "power_w", load.power_w, at_s) * length_s
        at_s += length_s
        yield Sample(GPU, "energy_j", round(energy_j, 3), None, at_s)


def _drawn(name: LoadName, quantity: str, ends: tuple[float, float], at_s: float) -> float:
    """The value at a moment: a new one is drawn whenever the reading changes."""
    update_s = UPDATES.get(quantity, (INTERVAL_S, 0.0, 0.0))[0]
    return random.Random(f"{name} {quantity} {round(at_s / update_s)}").uniform(*ends)


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    for each in get_args(LoadName):
        print(write(each, Path(sys.argv[1]) / f"{each}.jsonl"))
