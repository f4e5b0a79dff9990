"""What a reading is made of: how often its value changes, and over what time it is a mean."""

from __future__ import annotations

import math
from typing import Literal

from bench.core.bounds import Duration
from bench.core.frozen_model import FrozenModel

WINDOW_ROUNDING_S = 0.5
"""Lengths of windows are asked for in multiples of this, in seconds."""


class UpdateTiming(FrozenModel):
    """How often one reading of one device changes, and over what time it is a mean.

    A value that is read at a moment ``t`` may be as old as ``update_s``, and is then a mean over ``averages_over_s``
    before that. It tells about the time from ``t - update_s - averages_over_s`` to ``t``.
    """

    device: str
    name: str
    """A key of :data:`bench.core.telemetry.QUANTITIES`."""
    update_s: Duration
    """The time from one new value to the next, in seconds."""
    averages_over_s: Duration = 0.0
    """A value is a mean over the last so many seconds; 0: it is of one instant, or a counter."""
    source: Literal["measured", "table"] = "table"
    """Whether ``update_s`` was measured on this device, or is what was measured on a device of another kind."""
    at_changes: bool = False
    """Whether each sample is a change: its time is when a new value appeared. Else the time is that of a call."""

    @property
    def span_s(self) -> float:
        """How far back from the moment of a call its value may reach, in seconds."""
        return self.update_s + self.averages_over_s

    def shortest_window_s(self, interval_s: float, samples: int) -> float:
        """The shortest window that surely holds so many different values, all of which tell about it alone.

        Args:
            interval_s: The time between two samples, in seconds.
            samples: The number of values.
        """
        return self.span_s + samples * max(self.update_s, interval_s)

    def needed_window_s(self, interval_s: float, samples: int) -> float:
        """:meth:`shortest_window_s`, rounded up to what is asked for."""
        exact_s = self.shortest_window_s(interval_s, samples)
        return math.ceil(round(exact_s / WINDOW_ROUNDING_S, 6)) * WINDOW_ROUNDING_S
