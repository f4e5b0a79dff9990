"""A recording that stands in for the devices of a node."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.core.recording import Recording, read_recording
from bench.core.telemetry import GpuProcess, Sample
from bench.plugins.probe import Probe


class ReplayProbe(Probe):
    """Replays the samples of a recording at the intervals at which they were recorded; after the last there are none.

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
        self._ticks = sorted(self.recording.ticks, key=lambda tick: tick.at_s) if self.recording else []
        self._next = 0
        self._later_s = clock() - self._ticks[0].at_s if self._ticks else 0.0
        """How much later everything happens again."""
        if self.recording is not None:
            self.devices = self.recording.header.devices
            self.problems = self.recording.header.problems
            self.update_timings = self.recording.header.update_timings

    def read(self) -> list[Sample]:
        """The samples of all ticks that have become due, at the moments at which they would have been read now."""
        samples: list[Sample] = []
        now_s = self.clock()
        while self._next < len(self._ticks) and self._ticks[self._next].at_s + self._later_s <= now_s:
            tick = self._ticks[self._next]
            for sample in tick.readings:
                recorded_s = tick.at_s if sample.at_s is None else sample.at_s
                samples.append(sample._replace(at_s=round(recorded_s + self._later_s, 6)))
            self._next += 1
        return samples

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        if self.recording is None:
            return [], []
        return [process for check in self.recording.checks for process in check.processes], []
