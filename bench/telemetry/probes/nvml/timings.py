"""What the readings of a GPU are made of: how often NVML has a new value, and over what time it is a mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.core.update_timing import UpdateTiming
from bench.telemetry.probes.nvml.gpm import GPM_METRICS, MIN_SPAN_S

GA100 = (8, 0)
"""The compute capability up to which ``nvmlDeviceGetPowerUsage`` is of an instant, by NVML's documentation."""


class Timing(NamedTuple):
    """How often a value changes, and over what time it is a mean, in seconds."""

    update_s: float
    averages_over_s: float = 0.0


TABLE: Mapping[str, Timing] = {
    "power_w": Timing(0.1),
    "energy_j": Timing(0.1),
    "utilization": Timing(0.2, averages_over_s=0.2),
    **dict.fromkeys(GPM_METRICS, Timing(0.1, averages_over_s=MIN_SPAN_S)),
}
"""Measured on an H200 with driver 580.159 on 2026-11-27."""
POWER_MEAN_S = 1.0
"""What ``nvmlDeviceGetPowerUsage`` averages over on most GPUs, by NVML's documentation."""
MEASURED = ("power_w", "energy_j", "utilization")
"""What can be measured by calls alone: GPM's values depend on when they are asked for."""


def power_averages_over_s(has_instant_power: bool, capability: Sequence[int] | None) -> float:
    """Over what time the power is a mean, in seconds (pure).

    Args:
        has_instant_power: Whether the field of the instant power is answered; else ``nvmlDeviceGetPowerUsage`` is read.
        capability: The GPU's compute capability; ``None``: unknown.
    """
    instant = has_instant_power or (capability is not None and tuple(capability) <= GA100)
    return 0.0 if instant else POWER_MEAN_S


def timings_of(
    device: str, names: Sequence[str], power_mean_s: float, measured: Mapping[str, float]
) -> tuple[UpdateTiming, ...]:
    """The timings of a device's readings (pure).

    Args:
        device: The id of the device.
        names: The quantities that it has.
        power_mean_s: See :func:`power_averages_over_s`.
        measured: The intervals that were measured on it, in seconds, by quantity.
    """
    return tuple(
        UpdateTiming(
            device=device,
            name=name,
            update_s=measured.get(name, timing.update_s),
            averages_over_s=power_mean_s if name == "power_w" else timing.averages_over_s,
            source="measured" if name in measured else "table",
            at_changes=name == "energy_j",
        )
        for name, timing in TABLE.items()
        if name in names
    )
