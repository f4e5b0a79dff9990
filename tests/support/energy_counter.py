"""A simulated counter of a GPU's energy (reports/analysis/energy_alias.py), and what one of an H200 read (2026-11-27).

The load of the recorded readings was busy for half of each period. Mean power by the counter over about 1.4 s, for
eight phases of the period of 20 ms against the start of the window; with periods of 100 and 200 ms the lowest and the
highest.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from bench.core.telemetry import HOST, Device, NodeTelemetry, Series
from bench.core.update_timing import UpdateTiming
from reports.analysis.energy import window_power
from reports.analysis.energy_alias import GPU_SAMPLING, widened_for
from reports.analysis.stats import arithmetic_mean

RECORDED_PERIOD_S = 0.020
RECORDED_W = (587.0, 465.0, 422.0, 428.0, 430.0, 464.0, 562.0, 602.0)
RECORDED_RANGE_W = {0.1: (455.0, 518.0), 0.2: (442.0, 490.0)}
RECORDED_WINDOW_S = 1.4
IDLE_W, BUSY_W = 140.0, 826.0
"""The lowest and the highest instant reading of a load with a period of 100 ms."""
UPDATE_S = 0.1
GPU = "GPU-simulated"


class Load(NamedTuple):
    """A load that is busy at the beginning of each period; ``first_s``: when one begins."""

    period_s: float = RECORDED_PERIOD_S
    first_s: float = 0.0
    busy_share: float = 0.5
    idle_w: float = IDLE_W
    busy_w: float = BUSY_W

    @property
    def mean_w(self) -> float:
        return self.idle_w + self.busy_share * (self.busy_w - self.idle_w)

    def energy(self, at_s: float) -> float:
        """From ``first_s`` to a moment, in J."""
        periods, part = divmod((at_s - self.first_s) / self.period_s, 1)
        busy_s = (periods * self.busy_share + min(part, self.busy_share)) * self.period_s
        return self.idle_w * (at_s - self.first_s) + (self.busy_w - self.idle_w) * busy_s


def counted_series(energy: Callable[[float], float], began_s: float, ended_s: float, offset_s: float = 0.0) -> Series:
    """What the counter reads at its updates, from one before ``began_s`` to one after ``ended_s``.

    Args:
        energy: The energy from any moment to another, in J.
        began_s: The beginning of the window.
        ended_s: Its end.
        offset_s: When one of the updates is.
    """
    looks = round(UPDATE_S / GPU_SAMPLING.period_s)
    first = math.floor((began_s - offset_s) / UPDATE_S)
    times, joules, total = [], [], 0.0
    for update in range(first, math.ceil((ended_s - offset_s) / UPDATE_S) + 1):
        at_s = offset_s + update * UPDATE_S
        for look in range(looks):
            end_s = at_s - look * GPU_SAMPLING.period_s
            seen = energy(end_s) - energy(end_s - GPU_SAMPLING.seen_s)
            total += seen * GPU_SAMPLING.period_s / GPU_SAMPLING.seen_s
        times.append(at_s)
        joules.append(total)
    return Series(device=GPU, name="energy_j", times_s=tuple(times), values=tuple(joules))


def telemetry_of(series: Series, began_s: float, ended_s: float, **changes) -> NodeTelemetry:
    fields = {
        "host": "here",
        "source": "live",
        "interval_s": 0.2,
        "began_s": began_s,
        "ended_s": ended_s,
        "devices": (Device(id=HOST, name="here"), Device(id=GPU, name="H200")),
        "series": (series,),
        "update_timings": (UpdateTiming(device=GPU, name=series.name, update_s=UPDATE_S, at_changes=True),),
    }
    return NodeTelemetry(**fields | changes)


class Coverage(NamedTuple):
    """How often the interval over trials holds the mean over all phases, and its median half-width, relative to it."""

    held: float
    half_width: float


def recorded_reading(phase: float) -> float:
    """The recorded mean power at a phase from 0 to 1, on the lines between the eight recorded ones."""
    place, share = divmod(phase % 1 * len(RECORDED_W), 1)
    early, late = (RECORDED_W[(int(place) + step) % len(RECORDED_W)] for step in (0, 1))
    return early + share * (late - early)


def simulated_reading(phase: float, load: Load = Load(), window_s: float = RECORDED_WINDOW_S) -> float:
    """What :mod:`reports.analysis.energy` makes of a load that begins its periods at a phase from 0 to 1."""
    shifted = load._replace(first_s=phase * load.period_s)
    series = counted_series(shifted.energy, 10.03, 10.03 + window_s)
    power = window_power(telemetry_of(series, 10.03, 10.03 + window_s), GPU, series.name)
    assert power.value is not None, power.reason
    return power.value


def coverage(
    reading: Callable[[float], float], mean_w: float, trials: int, tries: int, *, pause: bool, alias: float = 0.0
) -> Coverage:
    """Repeat a cell of so many trials, each with noise of 0.5 %.

    Args:
        reading: The mean power in W that a trial reads by the phase of its steps, from 0 to 1.
        mean_w: The mean over all phases.
        trials: Of a cell.
        tries: How many cells.
        pause: Whether each trial's phase is random; else it is the same in all trials of a cell.
        alias: The error by which a cell's interval is widened (:func:`reports.analysis.stats.widened`).
    """
    draw = random.Random(f"{trials} {pause}")
    held, half_widths = 0, []
    for _ in range(tries):
        first = draw.random()
        phases = [draw.random() if pause else first for _ in range(trials)]
        cell = widened_for(arithmetic_mean([reading(phase) * draw.gauss(1, 0.005) for phase in phases], "W"), alias)
        held += cell.low <= mean_w <= cell.high
        half_widths.append((cell.high - cell.low) / 2 / mean_w)
    return Coverage(held / tries, median(half_widths))
