"""The contract of a probe: what can be read on a node while ranks work there.

A probe is one file that defines ``PROBE``, a :class:`ProbePlugin`. Nothing in an opened probe raises: what can't be
read is a reading of ``None`` with its reason, and the sweep goes on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from bench.core.case import Case
from bench.core.telemetry import Device, GpuProcess, Sample
from bench.core.update_timing import UpdateTiming


class Probe(ABC):
    """An opened probe: reads some devices of this node, again and again, from one process."""

    devices: tuple[Device, ...] = ()
    problems: tuple[str, ...] = ()
    """Why devices can't be sampled, a line each. A probe without any device has a problem here."""
    update_timings: tuple[UpdateTiming, ...] = ()
    """How often the values of readings change, and over what time they are means, where that is known."""

    def prepare(self, interrupted: Callable[[], bool]) -> None:
        """Find out what has to be known before the first reading; may take a second. Called once, after the processes
        on the devices were listed.

        Args:
            interrupted: Whether the ranks have come to their measured window: then it returns at once.
        """
        return

    @abstractmethod
    def read(self) -> list[Sample]:
        """All readings of all devices now. It runs inside the measured window and must be cheap."""

    def due_s(self, near_edge: bool) -> float:
        """When :meth:`poll` has to be called next, by the monotonic clock in seconds; infinity: never.

        Args:
            near_edge: Whether a window is about to begin, or has just begun or ended.
        """
        return math.inf

    def poll(self, near_edge: bool) -> list[Sample]:
        """Read what has to be read at moments of its own, between the calls of :meth:`read`."""
        return []

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        """The processes that compute on the devices now, and what could not be found out. Called outside windows."""
        return [], []

    def close(self) -> None:
        """Release what was opened."""
        return


@dataclass(frozen=True)
class ProbePlugin:
    """A kind of probe, named after its file.

    Args:
        summary: What it reads, in a few words.
        open: Takes the case and returns an opened :class:`Probe`, or ``None`` where the case does not need it. Runs in
            the sampler's process on the node.
    """

    summary: str
    open: Callable[[Case], Probe | None]
