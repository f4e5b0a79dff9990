"""The update timings of all devices of a node: those that were found before, or are found now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bench.core.update_timing import UpdateTiming
from bench.telemetry.probes.nvml.device import NvmlDevice
from bench.telemetry.probes.nvml.intervals import MEASURED, keep_intervals, measure_intervals, read_intervals

GPUS_AT_A_TIME = 4
"""A call of the energy counter takes 3.3 ms: with more GPUs in turn, their changes would be seen too late."""


def find_timings(
    devices: Sequence[NvmlDevice], driver: str, interrupted: Callable[[], bool]
) -> tuple[UpdateTiming, ...]:
    """The timings of the readings of all devices, which from now on rely on them.

    Args:
        devices: The devices.
        driver: The version of the driver.
        interrupted: Whether ranks need the machine: what is not known by then keeps the values of the table.
    """
    gpus = {nvml_device.device.id: nvml_device for nvml_device in devices if nvml_device.is_whole_gpu}
    known = {gpu: read_intervals(gpu, driver) for gpu in gpus}
    unknown = [gpu for gpu in gpus if known[gpu] is None]
    for first in range(0, len(unknown), GPUS_AT_A_TIME):
        queries = {
            (gpu, quantity): partial(_value, gpus[gpu], quantity)
            for gpu in unknown[first : first + GPUS_AT_A_TIME]
            for quantity in MEASURED
        }
        found = measure_intervals(queries, interrupted)
        if found is None:
            break
        for gpu, intervals in found.items():
            known[gpu] = intervals
            if intervals:  # nothing, on a busy machine, is no result: the next trial tries again
                keep_intervals(gpu, driver, intervals)
    return tuple(
        timing for nvml_device in devices for timing in nvml_device.rely_on(known.get(nvml_device.device.id) or {})
    )


def _value(nvml_device: NvmlDevice, quantity: str) -> float | None:
    value = nvml_device.query_quantity(quantity).value
    return None if value is None else float(value)
