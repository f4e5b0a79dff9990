"""One GPU or MIG slice that is read again and again.

A query that a device will never answer is made once; a device that is lost is not queried any more.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.core.telemetry import QUANTITIES, Device, Sample
from bench.core.update_timing import UpdateTiming
from bench.telemetry.probes.nvml.change_watch import MAX_UNCERTAINTY_S, ChangeWatch
from bench.telemetry.probes.nvml.fields import (
    CALLS,
    ENERGY,
    FIELD_SCOPES,
    FIELDS,
    MEMORY_CALLS,
    POWER,
    POWER_USAGE,
    QUANTITY_NAMES,
    UTILIZATION,
    VALUE_MEMBERS,
    NvmlCall,
    NvmlField,
)
from bench.telemetry.probes.nvml.gpm import GPM_METRICS, GpmSampler
from bench.telemetry.probes.nvml.query import DEVICE_LOST, PACKAGE_TOO_OLD, PERMANENT, QueryResult, query
from bench.telemetry.probes.nvml.timings import TABLE, power_averages_over_s, timings_of

NOT_FOR_MIG_SLICE = "a MIG slice has no such reading of its own"
COUNTER_RESET = "the counter started over"
CALLS_FAR_APART = f"its calls are more than {MAX_UNCERTAINTY_S:g} s apart: when it changes can't be seen"

MAX_XIDS_PER_READ = 100
"""The most events that are taken in one reading, so that many of them do not delay it."""


class Answer(NamedTuple):
    """A result of a query, with its time."""

    value: Any
    reason: str | None = None
    at_s: float | None = None
    """When it was answered, by the monotonic clock; ``None``: it was not asked for."""


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
        self.is_whole_gpu = device.part_of is None
        self._energy_watch = ChangeWatch(TABLE[ENERGY.quantity].update_s)
        self._nvml, self._handle, self._make_activity = nvml, handle, make_activity
        self._lost_reason: str | None = None
        # One number that an older package lacks must not cost the fields that are read with it.
        fields = (name for row in (*FIELDS, ENERGY) for name in row.fields)
        self._permanent_reasons = {name: PACKAGE_TOO_OLD for name in fields if not hasattr(nvml, name)}
        """Why queries are not made again, by name."""
        self._last: dict[str, float] = {}
        self._activity: GpmSampler | None = None
        self._events: Any = None
        self._listening = False
        self._xids = 0
        if self.is_whole_gpu:
            self._query("xid_errors", self._count_xids)  # events are counted from here on

    def read(self) -> list[Sample]:
        """A sample of each quantity; of energy only where it is unknown, see :meth:`poll_energy`."""
        result: dict[str, Answer] = {}
        if self.is_whole_gpu:
            # First: a GPU that falls off the bus reports this by an Xid.
            result["xid_errors"] = self._query("xid_errors", self._count_xids)
            result |= self._read_fields(FIELDS)
        for call in CALLS if self.is_whole_gpu else MEMORY_CALLS:
            if call.quantity not in result or result[call.quantity].reason in PERMANENT:
                result[call.quantity] = self._read_call(call)
        activities, reason, at_s = self._query("activity", self._read_activity)
        for name in GPM_METRICS:
            result[name] = (
                Answer(activities[name].value, activities[name].reason, at_s)
                if activities
                else Answer(None, reason, at_s)
            )
        if reason := self._energy_unknown_reason:
            result[ENERGY.quantity] = Answer(None, reason)
        return [
            self._reading(name, result.get(name, Answer(None, NOT_FOR_MIG_SLICE)))
            for name in QUANTITY_NAMES
            if name in result or name != ENERGY.quantity
        ]

    def energy_due_s(self, near_edge: bool) -> float:
        """When :meth:`poll_energy` has to be called next; infinity: it would not return a value. See
        :meth:`ChangeWatch.due_s`."""
        return math.inf if self._energy_unknown_reason else self._energy_watch.due_s(near_edge)

    @property
    def _energy_unknown_reason(self) -> str | None:
        """Why the energy counter is not called any more."""
        if not self.is_whole_gpu:
            return NOT_FOR_MIG_SLICE
        names = ("fields", *ENERGY.fields)
        return self._lost_reason or next(filter(None, map(self._permanent_reasons.get, names)), None)

    def poll_energy(self) -> list[Sample]:
        """Call the energy counter: a sample where it has changed since the call before, or could not be read."""
        began_s = time.monotonic()
        answer = self.query_quantity(ENERGY.quantity)
        ended_s = time.monotonic()
        found = self._energy_watch.observe(answer.value, began_s, ended_s)
        if answer.value is None:
            return [self._reading(ENERGY.quantity, answer)]
        if found is None:
            return []
        reason = CALLS_FAR_APART if found.value is None else None
        return [self._reading(ENERGY.quantity, Answer(found.value, reason, found.at_s))]

    def query_quantity(self, name: str) -> Answer:
        """The energy, the power or the utilization alone, by the same query as :meth:`read` and :meth:`poll_energy`."""
        if name == UTILIZATION.quantity:
            return self._read_call(UTILIZATION)
        answer = self._read_fields([ENERGY if name == ENERGY.quantity else POWER])[name]
        return self._read_call(POWER_USAGE) if name == POWER.quantity and answer.reason in PERMANENT else answer

    def rely_on(self, intervals: Mapping[str, float]) -> tuple[UpdateTiming, ...]:
        """The timings of the readings. Energy is polled by them from now on.

        Args:
            intervals: How often values change on this device, in seconds, by quantity, as far as it was measured.
        """
        if not self.is_whole_gpu:
            return timings_of(self.device.id, tuple(GPM_METRICS), 0.0, {})
        # Which query of the power is answered is known once it was made.
        self.query_quantity(POWER.quantity)
        instant = not any(name in self._permanent_reasons for name in ("fields", *POWER.fields))
        capability = query(lambda: self._nvml.nvmlDeviceGetCudaComputeCapability(self._handle)).value
        timings = timings_of(self.device.id, tuple(TABLE), power_averages_over_s(instant, capability), intervals)
        update_s = {timing.name: timing.update_s for timing in timings}
        self._energy_watch = ChangeWatch(update_s[ENERGY.quantity])
        return timings

    def close(self) -> None:
        """Free what was allocated."""
        if self._activity:
            self._activity.close()
        if self._events is not None:
            query(self._nvml.nvmlEventSetFree, self._events)

    def _query(self, name: str, function: Callable[..., Any], *arguments: Any) -> Answer:
        """:func:`query`, unless it is known that there is no answer."""
        reason = self._lost_reason or self._permanent_reasons.get(name)
        answer = Answer(None, reason) if reason else Answer(*query(function, *arguments), time.monotonic())
        if answer.reason in DEVICE_LOST:
            self._lost_reason = answer.reason
        elif answer.reason in PERMANENT:
            self._permanent_reasons[name] = answer.reason
        return answer

    def _read_call(self, call: NvmlCall) -> Answer:
        def call_nvml() -> float:
            arguments = [getattr(self._nvml, name) for name in call.arguments]
            return call.value(getattr(self._nvml, call.function)(self._handle, *arguments))

        return self._query(f"{call.function}{call.arguments}", call_nvml)

    def _read_fields(self, rows: Sequence[NvmlField]) -> dict[str, Answer]:
        """Quantities that are fields, all by one call."""
        wanted = [name for row in rows for name in row.fields]
        names = [name for name in wanted if name not in self._permanent_reasons]

        def call_nvml() -> Any:
            numbers = [(getattr(self._nvml, name), FIELD_SCOPES.get(name, 0)) for name in names]
            return self._nvml.nvmlDeviceGetFieldValues(self._handle, numbers)

        values, reason, at_s = self._query("fields", call_nvml) if names else Answer(None)
        answers = {name: Answer(None, reason or self._permanent_reasons.get(name), at_s) for name in wanted}
        if reason is None:
            for slot, name in enumerate(names):
                answers[name] = self._query(name, self._field_value, values[slot])._replace(at_s=at_s)
        return {row.quantity: _sum_fields(row, [answers[name] for name in row.fields]) for row in rows}

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

    def _reading(self, name: str, answer: Answer) -> Sample:
        value, reason, at_s = answer
        if value is not None and not math.isfinite(value):
            value, reason = None, f"NVML returned {value} without an error"
        if value is not None and QUANTITIES[name].kind == "counter":
            # A counter that decreased (a reset, an overflow of 32 bits) can't be compared with earlier values.
            if value < self._last.get(name, value):
                value, reason, self._last[name] = None, COUNTER_RESET, float("inf")
            else:
                self._last[name] = value
        moment_s = None if at_s is None else round(at_s, 6)
        return Sample(self.device.id, name, None if value is None else float(value), reason, moment_s)


def _sum_fields(row: NvmlField, answers: list[Answer]) -> Answer:
    known_values = [answer.value for answer in answers if answer.value is not None]
    missing = [answer for answer in answers if answer.value is None]
    # A field that is missing only for a while would make the sum fall and rise again.
    if missing and not (known_values and row.allow_partial and all(answer.reason in PERMANENT for answer in missing)):
        return missing[0]
    return Answer(sum(known_values) * row.factor, None, answers[0].at_s)
