"""What is read of one GPU or MIG slice: tables of queries, and a device that is read again and again.

A query that a device will never answer is made once; a device that is lost is not queried any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.core.telemetry import QUANTITIES, Device, Sample
from bench.telemetry.probes.nvml.query import (
    DEVICE_LOST,
    GPM_METRICS,
    PACKAGE_TOO_OLD,
    PERMANENT,
    GpmSampler,
    QueryResult,
    query,
)

NOT_FOR_MIG_SLICE = "a MIG slice has no such reading of its own"
COUNTER_RESET = "the counter started over"

MAX_XIDS_PER_READ = 100
"""The most events that are taken in one reading, so that many of them do not delay it."""


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


FIELDS = (
    NvmlField("power_w", 1e-3, ("NVML_FI_DEV_POWER_INSTANT",)),
    NvmlField("energy_j", 1e-3, ("NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",)),
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
CALLS = (
    *MEMORY_CALLS,
    NvmlCall("utilization", "nvmlDeviceGetUtilizationRates", (), lambda result: result.gpu / 100),
    NvmlCall(
        "power_w", "nvmlDeviceGetPowerUsage", (), lambda result: result / 1e3
    ),  # a mean over a second on most GPUs
    NvmlCall("temperature_c", "nvmlDeviceGetTemperatureV", ("NVML_TEMPERATURE_GPU",), float),
    NvmlCall("temperature_c", "nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",), float),
    NvmlCall("sm_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_SM",), lambda result: result * 1e6),
    NvmlCall("memory_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_MEM",), lambda result: result * 1e6),
)
QUANTITY_NAMES = tuple(
    dict.fromkeys([row.quantity for row in CALLS] + [row.quantity for row in FIELDS] + ["xid_errors", *GPM_METRICS])
)


class NvmlDevice:
    """One device that is read again and again; it remembers the queries that are never answered.

    Args:
        nvml: The module ``pynvml``.
        device: The device.
        handle: NVML's handle of it.
        make_activity: Makes the sampler of its activity.
    """

    def __init__(self, nvml: Any, device: Device, handle: Any, make_activity: Callable[[], GpmSampler]) -> None:
        self.device = device
        self._nvml, self._handle, self._make_activity = nvml, handle, make_activity
        self._lost_reason: str | None = None
        # One number that an older package lacks must not cost the fields that are read with it.
        fields = (name for row in FIELDS for name in row.fields)
        self._permanent_reasons = {name: PACKAGE_TOO_OLD for name in fields if not hasattr(nvml, name)}
        """Why queries are not made again, by name."""
        self._last: dict[str, float] = {}
        self._activity: GpmSampler | None = None
        self._events: Any = None
        self._listening = False
        self._xids = 0
        if device.part_of is None:
            self._query("xid_errors", self._count_xids)  # events are counted from here on

    def read(self) -> list[Sample]:
        """A sample of each quantity."""
        is_whole_gpu = self.device.part_of is None
        result: dict[str, QueryResult] = {}
        if is_whole_gpu:
            # First: a GPU that falls off the bus reports this by an Xid.
            result["xid_errors"] = self._query("xid_errors", self._count_xids)
            result |= self._read_fields()
        for call in CALLS if is_whole_gpu else MEMORY_CALLS:
            if call.quantity not in result or result[call.quantity].reason in PERMANENT:
                result[call.quantity] = self._read_call(call)
        activities, reason = self._query("activity", self._read_activity)
        result |= activities or dict.fromkeys(GPM_METRICS, QueryResult(None, reason))
        return [self._reading(name, result.get(name, QueryResult(None, NOT_FOR_MIG_SLICE))) for name in QUANTITY_NAMES]

    def close(self) -> None:
        """Free what was allocated."""
        if self._activity:
            self._activity.close()
        if self._events is not None:
            query(self._nvml.nvmlEventSetFree, self._events)

    def _query(self, name: str, function: Callable[..., Any], *arguments: Any) -> QueryResult:
        """:func:`query`, unless it is known that there is no answer."""
        reason = self._lost_reason or self._permanent_reasons.get(name)
        answer = QueryResult(None, reason) if reason else query(function, *arguments)
        if answer.reason in DEVICE_LOST:
            self._lost_reason = answer.reason
        elif answer.reason in PERMANENT:
            self._permanent_reasons[name] = answer.reason
        return answer

    def _read_call(self, call: NvmlCall) -> QueryResult:
        def call_nvml() -> float:
            arguments = [getattr(self._nvml, name) for name in call.arguments]
            return call.value(getattr(self._nvml, call.function)(self._handle, *arguments))

        return self._query(f"{call.function}{call.arguments}", call_nvml)

    def _read_fields(self) -> dict[str, QueryResult]:
        """All quantities of :data:`FIELDS`, by one call."""
        names = [name for row in FIELDS for name in row.fields if name not in self._permanent_reasons]

        def call_nvml() -> Any:
            numbers = [(getattr(self._nvml, name), FIELD_SCOPES.get(name, 0)) for name in names]
            return self._nvml.nvmlDeviceGetFieldValues(self._handle, numbers)

        values, reason = self._query("fields", call_nvml)
        answers = {
            name: QueryResult(None, reason or permanent_reason)
            for name, permanent_reason in self._permanent_reasons.items()
        }
        for slot, name in enumerate(names):
            answers[name] = QueryResult(None, reason) if reason else self._query(name, self._field_value, values[slot])
        return {row.quantity: _sum_fields(row, [answers[name] for name in row.fields]) for row in FIELDS}

    def _field_value(self, field: Any) -> float:
        if field.nvmlReturn:
            raise self._nvml.NVMLError(field.nvmlReturn)
        return float(getattr(field.value, VALUE_MEMBERS[field.valueType]))

    def _count_xids(self) -> int:
        nvml = self._nvml
        if self._events is None:
            self._events = nvml.nvmlEventSetCreate()
        if not self._listening:
            nvml.nvmlDeviceRegisterEvents(self._handle, nvml.nvmlEventTypeXidCriticalError, self._events)
            self._listening = True
        with contextlib.suppress(nvml.NVMLError_Timeout):
            for _ in range(MAX_XIDS_PER_READ):
                nvml.nvmlEventSetWait(self._events, 0)
                self._xids += 1
        return self._xids

    def _read_activity(self) -> dict[str, QueryResult]:
        if self._activity is None:
            self._activity = self._make_activity()
        return self._activity.read()

    def _reading(self, name: str, answer: QueryResult) -> Sample:
        value, reason = answer
        if value is not None and QUANTITIES[name].kind == "counter":
            # A counter that decreased (a reset, an overflow of 32 bits) can't be compared with earlier values.
            if value < self._last.get(name, value):
                value, reason, self._last[name] = None, COUNTER_RESET, float("inf")
            else:
                self._last[name] = value
        return Sample(self.device.id, name, None if value is None else float(value), reason)


def _sum_fields(row: NvmlField, answers: list[QueryResult]) -> QueryResult:
    known_values = [answer.value for answer in answers if answer.value is not None]
    missing = [answer for answer in answers if answer.value is None]
    # A field that is missing only for a while would make the sum fall and rise again.
    if missing and not (known_values and row.allow_partial and all(answer.reason in PERMANENT for answer in missing)):
        return missing[0]
    return QueryResult(sum(known_values) * row.factor)
