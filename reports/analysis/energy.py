"""The power of a device over the measured window, from its counter of energy.

A counter is renewed at intervals: that of a GPU every 0.1 s, those of RAPL every millisecond. A reading is what the
counter was at its last update, so that its time is known to half an interval only, and a value like the one before it
says nothing new.

Where changes are known near both ends of the window, its power is that between the first and the last change inside
it: steps go on alike, and a device that is idle outside the window does not count. Steps that are longer than an update
begin with the window, and what is before its first change is the same part of a step in every trial: of them the power
is that between two changes that are about a whole number of steps apart. Else the counter at an end is
interpolated between the changes on either side. What the power was between an end and its change is not known: the
energy is uncertain by the mean power times that distance, as large as if the device drew nothing, or twice the mean
power, all that time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

from bench.core.telemetry import NodeTelemetry, Series
from bench.core.update_timing import UpdateTiming

MIN_SAMPLES = 3
"""Of a counter that is read at intervals: in the window."""
MAX_SHARE_OF_AN_UPDATE = 0.125
"""How long an update may be compared with the window: each end may be off by one, both together by a quarter."""
MAX_DISTANCE = 2.0
"""How far an end of the window may be from the nearest change: in updates, or intervals of sampling."""
NEAR = 1.3
"""How far the first and the last change inside the window may be from its ends, in updates, which come irregularly."""
NO_WINDOW = "its window has no length"
CHANGES_AT_AN_END = 8
"""Of a window, that are tried out."""
DEFAULT_UPDATE_S = {"energy_j": 0.1, "cpu_energy_j": 0.001}
"""The time between two updates where a recording does not say it."""


class WindowPower(NamedTuple):
    """A mean power over the window in W, or ``None`` and the reason."""

    value: float | None
    reason: str | None = None
    end_error: float | None = None
    """By how much of the value the ends of the window may be wrong, at most."""


class Change(NamedTuple):
    """A value of a counter, and when the counter took it: at ``at_s`` ± ``uncertainty_s``."""

    at_s: float
    joules: float
    uncertainty_s: float = 0.0


def window_power(node: NodeTelemetry, device: str, name: str, step_s: float = 0.0) -> WindowPower:
    """The mean power over the window of a node.

    Args:
        node: The telemetry of the node.
        device: The device.
        name: The series of its counter, in J.
        step_s: The mean duration of a step, in seconds; 0: there are none, or it is unknown.
    """
    series = next((series for series in node.series if (series.device, series.name) == (device, name)), None)
    updates = _timing(node, device, name)
    if reason := _unknown_reason(node, series, updates):
        return WindowPower(None, reason)
    # Of changes at one moment the last counts: there is no power between them.
    changes = list({change.at_s: change for change in find_changes(series, updates)}.values()) if series else []
    if len(changes) < 2:
        return WindowPower(None, "its counter does not move here")
    if any(later.joules < earlier.joules for earlier, later in pairwise(changes)):
        return WindowPower(None, "its counter went backwards")
    if (estimate := _power_inside(changes, node, updates, step_s)) is not None:
        return estimate
    window_s = node.ended_s - node.began_s
    began, ended = (_energy_at(changes, moment_s) for moment_s in (node.began_s, node.ended_s))
    allowed_s = MAX_DISTANCE * max(updates.update_s, node.interval_s)
    for end, name in ((began, "beginning"), (ended, "end")):
        if end.distance_s > allowed_s:
            return WindowPower(None, f"its counter was not read within {end.distance_s:.2g} s of the window's {name}")
    joules = ended.joules - began.joules
    error_joules = began.error_joules + ended.error_joules
    return WindowPower(joules / window_s, end_error=error_joules / joules if joules > 0 else None)


def _power_inside(
    changes: Sequence[Change], node: NodeTelemetry, updates: UpdateTiming, step_s: float
) -> WindowPower | None:
    """The mean power between two changes inside the window, where some are near its ends."""
    inside = [change for change in changes if node.began_s <= change.at_s <= node.ended_s]
    if not updates.at_changes or len(inside) < 2:
        return None
    distances_s = inside[0].at_s - node.began_s, node.ended_s - inside[-1].at_s
    if max(distances_s) > NEAR * updates.update_s:
        return None
    first, last, end_error = inside[0], inside[-1], sum(distances_s) / (node.ended_s - node.began_s)
    if updates.update_s < step_s < last.at_s - first.at_s:
        first, last = _whole_steps_apart(inside, step_s)
        end_error = _part_of_a_step(first, last, step_s)
    return WindowPower((last.joules - first.joules) / (last.at_s - first.at_s), end_error=end_error)


def _whole_steps_apart(changes: Sequence[Change], step_s: float) -> tuple[Change, Change]:
    """The two changes between which the least part of a step is too much or too little. The ends of the window have
    those that are close together."""
    pairs = product(changes[:CHANGES_AT_AN_END], changes[-CHANGES_AT_AN_END:])
    apart = [(first, last) for first, last in pairs if last.at_s - first.at_s > step_s / 2]
    return min(apart, key=lambda pair: _part_of_a_step(pair[0], pair[1], step_s))


def _part_of_a_step(first: Change, last: Change, step_s: float) -> float:
    """The time between two changes that is no whole step, as a share of it."""
    passed_s = last.at_s - first.at_s
    return abs(math.remainder(passed_s, step_s)) / passed_s


def find_changes(series: Series, updates: UpdateTiming) -> Iterator[Change]:
    """The changes of a counter, by its known samples.

    A counter that is read at intervals was last renewed after the reading before, and at most one update ago.
    """
    before: tuple[float, float] | None = None
    for at_s, joules in zip(series.times_s, series.values, strict=True):
        if joules is None:
            continue
        if before is None or joules != before[1]:
            oldest_s = at_s - updates.update_s if before is None else max(before[0], at_s - updates.update_s)
            uncertainty_s = 0.0 if updates.at_changes else (at_s - oldest_s) / 2
            yield Change(at_s - uncertainty_s, joules, uncertainty_s)
        before = at_s, joules


class _EnergyAt(NamedTuple):
    joules: float
    error_joules: float
    distance_s: float
    """To the nearest change."""


def _energy_at(changes: Sequence[Change], moment_s: float) -> _EnergyAt:
    """A counter at a moment, on the line through the changes on either side, or through the nearest two."""
    after = min(max(bisect_right(changes, moment_s, key=lambda change: change.at_s), 1), len(changes) - 1)
    early, late = changes[after - 1], changes[after]
    power = (late.joules - early.joules) / (late.at_s - early.at_s)
    nearest = min((early, late), key=lambda change: abs(change.at_s - moment_s))
    distance_s = abs(nearest.at_s - moment_s)
    joules = early.joules + power * (moment_s - early.at_s)
    return _EnergyAt(joules, power * (distance_s + nearest.uncertainty_s), distance_s)


def _timing(node: NodeTelemetry, device: str, name: str) -> UpdateTiming:
    recorded = (timing for timing in node.update_timings if (timing.device, timing.name) == (device, name))
    return next(recorded, UpdateTiming(device=device, name=name, update_s=DEFAULT_UPDATE_S[name]))


def _unknown_reason(node: NodeTelemetry, series: Series | None, updates: UpdateTiming) -> str | None:
    if node.incomplete:
        return node.incomplete
    if series is None:
        return "; ".join(node.problems) or "not sampled"
    if series.reason and all(value is None for value in series.values):
        return series.reason
    window_s, needed_s = node.ended_s - node.began_s, updates.update_s / MAX_SHARE_OF_AN_UPDATE
    if window_s <= 0:
        return NO_WINDOW
    if window_s < needed_s:
        return f"window of {window_s:.2g} s: needs {needed_s:.2g} s (--window or --steps)"
    inside = sum(
        value is not None and node.began_s <= at_s <= node.ended_s
        for at_s, value in zip(series.times_s, series.values, strict=True)
    )
    if inside >= MIN_SAMPLES or updates.at_changes:
        return None
    too_few = f"{inside} samples in a window of {window_s:.2g} s: too few"
    return "; ".join((too_few, *filter(None, (series.reason,)), *node.problems))
