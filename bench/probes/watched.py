"""What is read of one GPU or MIG slice: tables of what is asked, and the device that is asked again and again.

What a device will never answer is asked once; a device that is lost is not asked at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.probes.nvml import ACTIVITIES, DEAD, NEVER, Activity, Answer, ask
from bench.telemetry import QUANTITIES, Device, Reading

SLICE = "a MIG slice has no such reading of its own"
STARTED_OVER = "the counter started over"

MOST_XIDS = 100
"""Taken in one reading: a storm of them must not hold it up."""


class Field(NamedTuple):
    """A quantity that ``nvmlDeviceGetFieldValues`` gives, as the sum of some fields."""

    quantity: str
    factor: float
    fields: tuple[str, ...]
    in_part: bool = False
    """Whether the sum of what is known will do where a field is unknown."""


class Call(NamedTuple):
    """A quantity that a function of its own gives."""

    quantity: str
    function: str
    arguments: tuple[str, ...]
    value: Callable[[Any], float]


FIELDS = (
    Field("power_w", 1e-3, ("NVML_FI_DEV_POWER_INSTANT",)),
    Field("energy_j", 1e-3, ("NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",)),
    Field("power_capped_s", 1e-9, ("NVML_FI_DEV_PERF_POLICY_POWER",)),
    Field(
        "thermal_throttled_s", 1e-9,
        ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN"),
        in_part=True,
    ),
    Field("power_brake_s", 1e-9, ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",)),
    Field("double_bit_errors", 1, ("NVML_FI_DEV_ECC_DBE_VOL_TOTAL",)),
    # Counters, and not nvmlDeviceGetPcieThroughput, which watches the bus for 20 ms each time.
    Field("pcie_bytes", 1, ("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", "NVML_FI_DEV_PCIE_COUNT_RX_BYTES")),
    Field("nvlink_bytes", 1024, ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX")),
)  # fmt: skip
SCOPES = {"NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX": 2**32 - 1, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX": 2**32 - 1}
"""Of a counter that each link has: all links together."""
MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Of the union that holds a field's value, by the value's type."""

# Where a quantity has several ways, the next is tried only where the one before is never answered: an older driver
# lacks the first, and two ways that take turns would not mean the same.
MEMORY = (
    Call("memory_bytes", "nvmlDeviceGetMemoryInfo", ("nvmlMemory_v2",), lambda got: got.used),
    Call("memory_bytes", "nvmlDeviceGetMemoryInfo", (), lambda got: got.used),  # with what the driver keeps for itself
)
CALLS = (
    *MEMORY,
    Call("utilization", "nvmlDeviceGetUtilizationRates", (), lambda got: got.gpu / 100),
    Call("power_w", "nvmlDeviceGetPowerUsage", (), lambda got: got / 1e3),  # a mean over a second on most GPUs
    Call("temperature_c", "nvmlDeviceGetTemperatureV", ("NVML_TEMPERATURE_GPU",), float),
    Call("temperature_c", "nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",), float),
    Call("sm_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_SM",), lambda got: got * 1e6),
    Call("memory_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_MEM",), lambda got: got * 1e6),
)
NAMES = tuple(
    dict.fromkeys([row.quantity for row in CALLS] + [row.quantity for row in FIELDS] + ["xid_errors", *ACTIVITIES])
)


class Watched:
    """One device that is read again and again, with what is known not to be worth asking."""

    def __init__(self, nvml: Any, device: Device, handle: Any, make_activity: Callable[[], Activity]) -> None:
        self.device = device
        self._nvml, self._handle, self._make_activity = nvml, handle, make_activity
        self._dead: str | None = None
        self._never: dict[str, str] = {}
        self._last: dict[str, float] = {}
        self._activity: Activity | None = None
        self._events: Any = None
        self._listening = False
        self._xids = 0
        if device.part_of is None:
            self._ask("xid_errors", self._count_xids)  # listens from here on

    def read(self) -> list[Reading]:
        whole = self.device.part_of is None
        got: dict[str, Answer] = {}
        if whole:
            # First: a GPU that falls off the bus says so by an Xid.
            got["xid_errors"] = self._ask("xid_errors", self._count_xids)
            got |= self._read_fields()
        for call in CALLS if whole else MEMORY:
            if call.quantity not in got or got[call.quantity].reason in NEVER:
                got[call.quantity] = self._read_call(call)
        activities, reason = self._ask("activity", self._read_activity)
        got |= activities or dict.fromkeys(ACTIVITIES, Answer(None, reason))
        return [self._reading(name, got.get(name, Answer(None, SLICE))) for name in NAMES]

    def close(self) -> None:
        if self._activity:
            self._activity.close()
        if self._events is not None:
            ask(self._nvml.nvmlEventSetFree, self._events)

    def _ask(self, question: str, function: Callable[..., Any], *arguments: Any) -> Answer:
        """:func:`ask`, unless the answer is known to be none."""
        reason = self._dead or self._never.get(question)
        answer = Answer(None, reason) if reason else ask(function, *arguments)
        if answer.reason in DEAD:
            self._dead = answer.reason
        elif answer.reason in NEVER:
            self._never[question] = answer.reason
        return answer

    def _read_call(self, call: Call) -> Answer:
        def put() -> float:
            arguments = [getattr(self._nvml, name) for name in call.arguments]
            return call.value(getattr(self._nvml, call.function)(self._handle, *arguments))

        return self._ask(f"{call.function}{call.arguments}", put)

    def _read_fields(self) -> dict[str, Answer]:
        """All quantities that are fields, by one call."""
        names = [name for row in FIELDS for name in row.fields if name not in self._never]

        def put() -> Any:
            numbers = [(getattr(self._nvml, name), SCOPES.get(name, 0)) for name in names]
            return self._nvml.nvmlDeviceGetFieldValues(self._handle, numbers)

        values, reason = self._ask("fields", put)
        answers = {name: Answer(None, reason or why) for name, why in self._never.items()}
        for slot, name in enumerate(names):
            answers[name] = Answer(None, reason) if reason else self._ask(name, self._field_value, values[slot])
        return {row.quantity: _added_up(row, [answers[name] for name in row.fields]) for row in FIELDS}

    def _field_value(self, field: Any) -> float:
        if field.nvmlReturn:
            raise self._nvml.NVMLError(field.nvmlReturn)
        return float(getattr(field.value, MEMBERS[field.valueType]))

    def _count_xids(self) -> int:
        nvml = self._nvml
        if self._events is None:
            self._events = nvml.nvmlEventSetCreate()
        if not self._listening:
            nvml.nvmlDeviceRegisterEvents(self._handle, nvml.nvmlEventTypeXidCriticalError, self._events)
            self._listening = True
        with contextlib.suppress(nvml.NVMLError_Timeout):
            for _ in range(MOST_XIDS):
                nvml.nvmlEventSetWait(self._events, 0)
                self._xids += 1
        return self._xids

    def _read_activity(self) -> dict[str, Answer]:
        if self._activity is None:
            self._activity = self._make_activity()
        return self._activity.read()

    def _reading(self, name: str, answer: Answer) -> Reading:
        value, reason = answer
        if value is not None and QUANTITIES[name].kind == "counter":
            # One that went back (a reset, 32 bits that ran over) says nothing about a window from then on.
            if value < self._last.get(name, value):
                value, reason, self._last[name] = None, STARTED_OVER, float("inf")
            else:
                self._last[name] = value
        return Reading(self.device.id, name, None if value is None else float(value), reason)


def _added_up(row: Field, answers: list[Answer]) -> Answer:
    known = [answer.value for answer in answers if answer.value is not None]
    missing = [answer for answer in answers if answer.value is None]
    # A part that is missing for a while only would make the sum go down and up again.
    if missing and not (known and row.in_part and all(answer.reason in NEVER for answer in missing)):
        return missing[0]
    return Answer(sum(known) * row.factor)
