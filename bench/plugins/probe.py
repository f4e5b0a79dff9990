"""The contract of a probe: what can be read on this node, by whatever means.

Nothing in a probe raises once it is made: what can't be read is a reading of ``None`` with its reason, and the sweep
goes on. A probe that can't be made at all says why in :attr:`Probe.problems` and has no devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from bench.core.telemetry import Device, GpuProcess, Sample


class Probe(ABC):
    """Reads some devices of this node, again and again, from one process."""

    devices: tuple[Device, ...] = ()
    problems: tuple[str, ...] = ()
    """Why devices that were wanted can't be sampled at all."""

    @abstractmethod
    def read(self) -> list[Sample]:
        """All readings of all devices now. Cheap: it runs inside the timed window."""

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        """Who computes on the devices now, and what could not be found out. Slow: never inside a timed window."""
        return [], []

    def close(self) -> None:
        """Let go of what was opened."""
        return
