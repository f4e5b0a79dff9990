"""The sampler: one process per node that records samples of its devices while the ranks work.

It appends lines to ``telemetry-<node>-<host>.jsonl``, so that no more than the last line is lost when it is killed. The
processes that compute on the GPUs are listed before the ranks are ready and after they have ended, never in between.
"""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol, TextIO

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.telemetry import GpuProcess, Header, ProcessCheck, Recording, Sample, Tick, read_recording
from bench.plugins import registry
from bench.plugins.probe import Probe

INTERVAL_S = 0.2
"""Between two samples, in seconds."""
REPLAY_PREFIX = "replay:"


class StopEvent(Protocol):
    """What the sampler uses of :class:`threading.Event`."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float, /) -> bool: ...


def run(case: Case, out: Path) -> None:
    """Sample the devices that a case needs into its folder ``out``, until SIGTERM."""
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    probes = choose_probes(case)
    # Where cores are short, ranks come first.
    os.nice(5)
    with (out / f"telemetry-{os.environ.get('RANK', '0')}-{platform.node()}.jsonl").open("a") as file:
        source = case.telemetry if case.telemetry.startswith(REPLAY_PREFIX) else "live"
        devices = tuple(device for probe in probes for device in probe.devices)
        problems = tuple(problem for probe in probes for problem in probe.problems)
        _append(
            file, Header(host=platform.node(), source=source, interval_s=INTERVAL_S, devices=devices, problems=problems)
        )
        _append(file, _check(probes))
        with pause_lock(out).open("a") as lock:
            sample(probes, stop, file, lock)
        _append(file, _check(probes))
    for probe in probes:
        probe.close()


def choose_probes(case: Case) -> list[Probe]:
    """The opened probes that the case needs: all that there are, or the recording that replaces them."""
    if case.telemetry.startswith(REPLAY_PREFIX):
        return [ReplayProbe(Path(case.telemetry.removeprefix(REPLAY_PREFIX)))]
    opened = [plugin.open(case) for plugin in registry.probes_of(case).values()]
    return [probe for probe in opened if probe is not None]


def sample(
    probes: Sequence[Probe], stop: StopEvent, file: TextIO, lock: TextIO, clock: Callable[[], float] = time.monotonic
) -> None:
    """Write a tick every :data:`INTERVAL_S`, unless sampling is paused, until ``stop`` is set.

    Args:
        probes: The probes to read.
        stop: Ends the sampling.
        file: The recording.
        lock: The open :func:`pause_lock`.
        clock: The time in seconds.
    """
    next_sample_s = clock()
    while not stop.is_set():
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            readings = tuple(reading for probe in probes for reading in probe.read())
            _append(file, Tick(at_s=clock(), readings=readings))
            fcntl.flock(lock, fcntl.LOCK_UN)
        next_sample_s = max(next_sample_s + INTERVAL_S, clock())
        stop.wait(next_sample_s - clock())


@contextmanager
def pause_sampling(out: Path) -> Iterator[None]:
    """A context in which the sampler of this node takes no samples. The kernel ends the pause if this process dies."""
    with pause_lock(out).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pause_lock(out: Path) -> Path:
    """The file whose lock pauses the sampler of this node."""
    return out / f"sampling-{platform.node()}.lock"


def _check(probes: Sequence[Probe]) -> ProcessCheck:
    results = [probe.processes() for probe in probes]
    return ProcessCheck(
        checked_at_s=time.monotonic(),
        processes=tuple(process for processes, _ in results for process in processes),
        problems=tuple(problem for _, problems in results for problem in problems),
    )


def _append(file: TextIO, value: FrozenModel) -> None:
    file.write(value.model_dump_json() + "\n")
    file.flush()


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
