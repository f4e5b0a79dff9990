"""The contract of a probe: what can be read on a node while ranks work there.

A probe is one file that defines ``PROBE``, a :class:`ProbePlugin`. Nothing in an opened probe raises: what can't be
read is a reading of ``None`` with its reason, and the sweep goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from bench.core.case import Case
from bench.core.telemetry import Device, GpuProcess, Sample


class Probe(ABC):
    """An opened probe: reads some devices of this node, again and again, from one process."""

    devices: tuple[Device, ...] = ()
    problems: tuple[str, ...] = ()
    """Why devices can't be sampled, a line each. A probe without any device has a problem here."""

    @abstractmethod
    def read(self) -> list[Sample]:
        """All readings of all devices now. It runs inside the measured window and must be cheap."""

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
