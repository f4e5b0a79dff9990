"""A recorded file in place of this node's devices: what was seen there then is seen here now."""

from __future__ import annotations

import time
from pathlib import Path

from bench.core.telemetry import GpuProcess, Recording, Sample, read_recording
from bench.plugins.probe import Probe


class ReplayProbe(Probe):
    """Hands out the ticks of a recording in the time they took; after its end it gives no more readings."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open() as lines:
                self.recording: Recording | None = read_recording(lines)
        except (OSError, ValueError) as problem:
            self.recording = None
            self.problems = (f"replay of {path}: {problem}",)
        self.began_s = time.monotonic()
        if self.recording is not None:
            self.devices = self.recording.header.devices
            self.problems = self.recording.header.problems

    def read(self) -> list[Sample]:
        """The latest tick that is due."""
        if self.recording is None or not self.recording.ticks:
            return []
        first, last = self.recording.ticks[0].at_s, self.recording.ticks[-1].at_s
        due = first + time.monotonic() - self.began_s
        if due > last + self.recording.header.interval_s:
            return []
        due_ticks = [tick for tick in self.recording.ticks if tick.at_s <= due]
        return list(due_ticks[-1].readings) if due_ticks else []

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        if self.recording is None:
            return [], []
        return [process for check in self.recording.checks for process in check.processes], []
