"""The clock and the power limit of one GPU at one moment, for the process that keeps it busy."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from bench.telemetry.probes.nvml.query import query


class GpuLimits(NamedTuple):
    """What held a GPU's rate at a moment; ``None`` where it is unknown, with the reason."""

    clock_hz: float | None
    """Of its multiprocessors, in hertz."""
    power_cap_w: float | None
    """The limit that is in force, in watts."""
    reason: str | None = None


def read_gpu_limits(uuid: str) -> GpuLimits:
    """Read a GPU's clock now, and its power limit.

    Args:
        uuid: Of the GPU or the MIG slice, as NVML writes it. A slice has the clock and the limit of its GPU.
    """
    nvml, reason = query(importlib.import_module, "pynvml")
    reason = reason or query(nvml.nvmlInit).reason
    if reason:
        return GpuLimits(None, None, f"NVML: {reason}")
    try:
        device, reason = query(_whole_gpu, nvml, uuid)
        if reason:
            return GpuLimits(None, None, f"NVML: {reason}")
        clock_mhz, no_clock = query(nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_SM)
        cap_mw, no_cap = query(nvml.nvmlDeviceGetEnforcedPowerLimit, device)
    finally:
        query(nvml.nvmlShutdown)
    reasons = [f"{what}: {why}" for what, why in (("clock", no_clock), ("power limit", no_cap)) if why]
    return GpuLimits(
        None if clock_mhz is None else clock_mhz * 1e6,
        None if cap_mw is None else cap_mw / 1e3,
        "; ".join(reasons) or None,
    )


def _whole_gpu(nvml: Any, uuid: str) -> Any:
    device = nvml.nvmlDeviceGetHandleByUUID(uuid)
    return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device) if uuid.startswith("MIG-") else device
