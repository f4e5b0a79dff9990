"""The telemetry of one node over a measured window: means, peaks and rates of its series, or a reason.

A gauge is averaged over the samples inside the window. The growth of a counter is taken between the ends of the window,
interpolated between the samples on either side.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

from bench.core.telemetry import QUANTITIES, NodeTelemetry, Series
from bench.core.update_timing import WINDOW_ROUNDING_S, UpdateTiming
from reports.analysis.energy import NO_WINDOW, window_power

MIN_SAMPLES = 3
"""Different values of a reading that a window has to hold."""
UPDATE_TOLERANCE = 0.9
"""Samples that are so much of an update apart are of different ones: neither ticks nor updates come quite regularly."""

ALMOST = 0.9


class ValueOrReason(NamedTuple):
    """A number, or ``None`` and the reason."""

    value: float | None
    reason: str | None = None


class TelemetryWindow:
    """The telemetry of one node over the measured window, by device and name of the series.

    Args:
        node: The telemetry.
        step_s: The mean duration of a step, in seconds; 0: unknown.
    """

    def __init__(self, node: NodeTelemetry, step_s: float = 0.0) -> None:
        self.node, self.step_s = node, step_s
        self.window_s = node.ended_s - node.began_s
        self._series = {(series.device, series.name): series for series in node.series}
        self._timings = {(timing.device, timing.name): timing for timing in node.update_timings}

    def series(self, device: str, name: str) -> Series | None:
        """All samples of a series, those outside the window too."""
        return self._series.get((device, name))

    def timing(self, device: str, name: str) -> UpdateTiming | None:
        """What the samples of a series are made of; ``None`` where it is unknown."""
        return self._timings.get((device, name))

    def values_in_window(self, device: str, name: str) -> list[float]:
        """The known values that tell about the window alone: a mean over time before it is left out."""
        return [value for _, value in self._samples_in_window(device, name)]

    def _samples_in_window(self, device: str, name: str) -> list[tuple[float, float]]:
        series, timing = self.series(device, name), self.timing(device, name)
        if series is None:
            return []
        # The growth of a counter is taken between its samples: each is of its moment.
        gauge_span_s = timing.span_s if timing and QUANTITIES[name].kind == "gauge" else 0.0
        return [
            (at, value)
            for at, value in zip(series.times_s, series.values, strict=True)
            if value is not None and self.node.began_s + gauge_span_s <= at <= self.node.ended_s
        ]

    def mean(self, device: str, name: str) -> ValueOrReason:
        """The mean of a gauge."""
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(fmean(self.values_in_window(device, name)))

    def peak(self, device: str, name: str) -> ValueOrReason:
        """The maximum of a gauge."""
        reason = self._unknown_reason(device, name)
        return ValueOrReason(None, reason) if reason else ValueOrReason(max(self.values_in_window(device, name)))

    def rate(self, device: str, name: str) -> ValueOrReason:
        """The growth of a counter per second of the window."""
        if reason := self._unknown_reason(device, name):
            return ValueOrReason(None, reason)
        growth = self.growth(device, name)
        if growth == 0 and QUANTITIES[name].always_grows:
            return ValueOrReason(None, "its counter does not move here")
        return ValueOrReason(growth / self.window_s)

    def power(self, device: str, name: str) -> ValueOrReason:
        """The mean power over the window by a counter of energy."""
        power = window_power(self.node, device, name, self.step_s)
        return ValueOrReason(power.value, power.reason)

    def growth(self, device: str, name: str) -> float:
        """The growth of a counter over the window, from however few samples; 0 where it is unknown."""
        series = self.series(device, name)
        known = (
            [(at, value) for at, value in zip(series.times_s, series.values, strict=True) if value is not None]
            if series
            else []
        )
        if len(known) < 2:
            return 0.0
        first, last = (_interpolate(known, edge) for edge in (self.node.began_s, self.node.ended_s))
        covered_s = min(known[-1][0], self.node.ended_s) - max(known[0][0], self.node.began_s)
        # Where sampling began late or ended early, the covered part is extrapolated to the window.
        return (last - first) * self.window_s / covered_s if covered_s > 0 else 0.0

    def coverage(self) -> tuple[int, float]:
        """The number of samples in the window, of what was sampled most often, and the share of the window between the
        first and the last of them."""
        # What is read at moments of its own, more often at some times, says nothing of the ticks.
        at_changes = {key for key, timing in self._timings.items() if timing.at_changes}
        times_by_series = (
            [at for at in series.times_s if self.node.began_s <= at <= self.node.ended_s]
            for key, series in self._series.items()
            if key not in at_changes
        )
        times_s = max(times_by_series, key=len, default=[])
        share = (times_s[-1] - times_s[0]) / self.window_s if len(times_s) > 1 and self.window_s > 0 else 0.0
        return len(times_s), share

    def _unknown_reason(self, device: str, name: str) -> str | None:
        if self.node.incomplete:
            return self.node.incomplete
        if self.window_s <= 0:
            return NO_WINDOW
        series = self.series(device, name)
        if series is None:
            return "; ".join(self.node.problems) or "not sampled"
        timing = self.timing(device, name)
        known = _count_updates(self._samples_in_window(device, name), timing)
        if known >= MIN_SAMPLES and not self._is_too_short_for(timing, name):
            return None
        if series.reason and known == 0 and all(value is None for value in series.values):
            return series.reason
        if timing is not None and self._is_too_short_for(timing, name):
            return self._too_short(timing)
        too_few = f"{known} samples in a window of {self.window_s:.2g} s: too few"
        return "; ".join((too_few, *filter(None, (series.reason,)), *self.node.problems))

    def _is_too_short_for(self, timing: UpdateTiming | None, name: str) -> bool:
        if timing is None or QUANTITIES[name].kind == "counter":
            return False
        return self.window_s < timing.shortest_window_s(self.node.interval_s, MIN_SAMPLES)

    def _too_short(self, timing: UpdateTiming) -> str:
        needed_s = timing.needed_window_s(self.node.interval_s, MIN_SAMPLES)
        if self.window_s > ALMOST * needed_s:
            # A window is a little shorter or longer than was asked for.
            needed_s += WINDOW_ROUNDING_S
        if timing.averages_over_s > self.node.interval_s:
            mean = f"mean over the last {timing.averages_over_s:g} s"
            return f"{mean}: needs a window of {needed_s:g} s (--window or --steps)"
        return f"window of {self.window_s:.2g} s: needs {needed_s:g} s (--window or --steps)"


def _count_updates(samples: Sequence[tuple[float, float]], timing: UpdateTiming | None) -> int:
    """How many different updates of a value samples hold: two within one update are one."""
    if timing is None:
        return len(samples)
    count, last_s = 0, -math.inf
    for at_s, _ in samples:
        if at_s - last_s >= UPDATE_TOLERANCE * timing.update_s:
            count, last_s = count + 1, at_s
    return count


def _interpolate(known: Sequence[tuple[float, float]], moment_s: float) -> float:
    """The value of a counter at a moment: interpolated between its neighbours, else the nearest one."""
    after = bisect_right(known, moment_s, key=itemgetter(0))
    if after in (0, len(known)):
        return known[min(after, len(known) - 1)][1]
    (early_s, low), (late_s, high) = known[after - 1], known[after]
    return low + (high - low) * (moment_s - early_s) / (late_s - early_s)
