"""A probe that replays a recording in place of this node's devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.core.telemetry import GpuProcess, Recording, Sample, read_recording
from bench.plugins.probe import Probe


class ReplayProbe(Probe):
    """Replays the ticks of a recording at the intervals at which they were recorded; after the last there are none.

    Args:
        path: The file of the recording.
        clock: The time in seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        try:
            with path.open() as lines:
                self.recording: Recording | None = read_recording(lines)
        except (OSError, ValueError) as problem:
            self.recording = None
            self.problems = (f"replay of {path}: {problem}",)
        self.began_s = clock()
        if self.recording is not None:
            self.devices = self.recording.header.devices
            self.problems = self.recording.header.problems

    def read(self) -> list[Sample]:
        """The latest tick that is due."""
        if self.recording is None or not self.recording.ticks:
            return []
        first, last = self.recording.ticks[0].at_s, self.recording.ticks[-1].at_s
        due = first + self.clock() - self.began_s
        if due > last + self.recording.header.interval_s:
            return []
        due_ticks = [tick for tick in self.recording.ticks if tick.at_s <= due]
        return list(due_ticks[-1].readings) if due_ticks else []

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        if self.recording is None:
            return [], []
        return [process for check in self.recording.checks for process in check.processes], []
