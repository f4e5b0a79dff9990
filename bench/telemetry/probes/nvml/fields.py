"""What is read of a GPU: tables of the queries to NVML, and the quantities that they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.telemetry.probes.nvml.gpm import GPM_METRICS


class NvmlField(NamedTuple):
    """A quantity that is the sum of fields of ``nvmlDeviceGetFieldValues``."""

    quantity: str
    factor: float
    fields: tuple[str, ...]
    allow_partial: bool = False
    """Whether fields that the device does not have are left out of the sum."""


class NvmlCall(NamedTuple):
    """A quantity that a function of its own returns."""

    quantity: str
    function: str
    arguments: tuple[str, ...]
    value: Callable[[Any], float]


POWER = NvmlField("power_w", 1e-3, ("NVML_FI_DEV_POWER_INSTANT",))
ENERGY = NvmlField("energy_j", 1e-3, ("NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",))
"""Not among :data:`FIELDS`: on an H200 the call takes 3.3 ms with it, and microseconds without."""
FIELDS = (
    POWER,
    NvmlField("power_capped_s", 1e-9, ("NVML_FI_DEV_PERF_POLICY_POWER",)),
    NvmlField(
        "thermal_throttled_s",
        1e-9,
        ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN"),
        allow_partial=True,
    ),
    NvmlField("power_brake_s", 1e-9, ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",)),
    NvmlField("double_bit_errors", 1, ("NVML_FI_DEV_ECC_DBE_VOL_TOTAL",)),
    # Counters, since nvmlDeviceGetPcieThroughput observes the bus for 20 ms in each call.
    NvmlField("pcie_bytes", 1, ("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", "NVML_FI_DEV_PCIE_COUNT_RX_BYTES")),
    NvmlField("nvlink_bytes", 1024, ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX")),
)
FIELD_SCOPES = {"NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX": 2**32 - 1, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX": 2**32 - 1}
"""The scope of fields that each link has: all links together."""
VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""The member of the union that holds a field's value, by the value's type."""

# Of several queries for a quantity, the next one is made only where the one before is never answered: an older driver
# lacks the first, and two queries that alternate would not mean the same.
MEMORY_CALLS = (
    NvmlCall("memory_bytes", "nvmlDeviceGetMemoryInfo", ("nvmlMemory_v2",), lambda result: result.used),
    NvmlCall(
        "memory_bytes", "nvmlDeviceGetMemoryInfo", (), lambda result: result.used
    ),  # includes what the driver reserves
)
UTILIZATION = NvmlCall("utilization", "nvmlDeviceGetUtilizationRates", (), lambda result: result.gpu / 100)
POWER_USAGE = NvmlCall("power_w", "nvmlDeviceGetPowerUsage", (), lambda result: result / 1e3)
"""On most GPUs a mean over a second: see :mod:`bench.telemetry.probes.nvml.timings`."""
CALLS = (
    *MEMORY_CALLS,
    UTILIZATION,
    POWER_USAGE,
    NvmlCall("temperature_c", "nvmlDeviceGetTemperatureV", ("NVML_TEMPERATURE_GPU",), float),
    NvmlCall("temperature_c", "nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",), float),
    NvmlCall("sm_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_SM",), lambda result: result * 1e6),
    NvmlCall("memory_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_MEM",), lambda result: result * 1e6),
)
QUANTITY_NAMES = tuple(
    dict.fromkeys([row.quantity for row in (*CALLS, *FIELDS, ENERGY)] + ["xid_errors", *GPM_METRICS])
)
