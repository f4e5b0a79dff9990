"""The sampler: one process per node that records samples of its devices while the ranks work.

It appends lines to ``telemetry-<node>-<host>.jsonl``, so that no more than the last line is lost when it is killed. The
processes that compute on the GPUs are listed before the ranks are ready and after they have ended, never in between.

A probe that fails costs its readings and nothing else: the failure is a problem in the recording.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol, TextIO, TypeVar

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.recording import Recording, read_recording
from bench.core.telemetry import LIVE, GpuProcess, Header, ProcessCheck, Sample, Tick, known_number
from bench.host.logs import describe_exception
from bench.host.machine import host_name, read_boot_id
from bench.host.paths import from_home
from bench.plugins import registry
from bench.plugins.probe import Probe, ProbePlugin
from bench.telemetry.pause import not_paused, pause_lock

ResultT = TypeVar("ResultT")

INTERVAL_S = 0.2
MAX_RECORDING_BYTES = 63 * 2**20
"""A recording of 0.3 KB a tick takes half a day to get there; one that is longer could not be stored."""
FULL_RECORDING = f"the recording reached {MAX_RECORDING_BYTES // 2**20} MiB, and nothing was sampled from then on"
MAX_PROBLEMS = 20
"""Of one probe, which may fail in another way each time."""
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
    probes = open_probes(case)
    # Where cores are short, ranks come first.
    os.nice(5)
    node = int(os.environ.get("RANK", "0"))
    with (out / f"telemetry-{node}-{host_name()}.jsonl").open("a") as file:
        source = case.telemetry if case.telemetry.startswith(REPLAY_PREFIX) else LIVE
        devices = tuple(device for probe in probes for device in probe.devices)
        problems = _problems_of(probes)
        header = Header(
            host=host_name(),
            source=source,
            interval_s=INTERVAL_S,
            devices=devices,
            problems=problems,
            node=node,
            boot_id=read_boot_id(),
        )
        _append(file, header)
        _append(file, _check(probes))
        with pause_lock(out, node).open("a") as lock:
            sample(probes, stop, file, lock)
        _append(file, _check(probes))
    for probe in probes:
        probe.close()


class GuardedProbe(Probe):
    """A probe that does not raise: where the guarded one does, its readings are missing, and :attr:`problems` say why.

    Args:
        name: Of the probe.
        open_guarded: Opens the guarded probe; ``None``: the case does not need it.
    """

    def __init__(self, name: str, open_guarded: Callable[[], Probe | None]) -> None:
        self.name = name
        self._guarded = self._attempt("could not be opened", open_guarded)
        if self._guarded is not None:
            self.devices = self._guarded.devices
            self.problems = (*self.problems, *self._guarded.problems)

    def read(self) -> list[Sample]:
        return list(self._attempt("failed", self._read_checked) or ())

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        listed = self._attempt("could not list processes", self._guarded.processes) if self._guarded else None
        return listed or ([], [])

    def close(self) -> None:
        if self._guarded is not None:
            self._attempt("could not be closed", self._guarded.close)

    def _read_checked(self) -> tuple[Sample, ...]:
        # A tick checks the types of its readings; one that is no number would be written without a reason.
        readings = tuple(self._guarded.read()) if self._guarded else ()
        return tuple(map(known_number, Tick(at_s=0, readings=readings).readings))

    def _attempt(self, failed: str, function: Callable[[], ResultT]) -> ResultT | None:
        try:
            return function()
        except Exception as error:
            problem = f"probe {self.name} {failed}: {describe_exception(error)}"
            if problem not in self.problems and len(self.problems) < MAX_PROBLEMS:
                self.problems = (*self.problems, problem)
            return None


def open_probes(case: Case) -> list[GuardedProbe]:
    """The opened probes that the case needs: all that there are, or the recording that replaces them."""
    if case.telemetry.startswith(REPLAY_PREFIX):
        path = from_home(case.telemetry.removeprefix(REPLAY_PREFIX))
        return [GuardedProbe("replay", lambda: ReplayProbe(path))]

    def open_probe(load: Callable[[], ProbePlugin]) -> Probe | None:
        return load().open(case)

    return [GuardedProbe(name, partial(open_probe, load)) for name, load in registry.probes_of(case).items()]


def sample(
    probes: Sequence[Probe], stop: StopEvent, file: TextIO, lock: TextIO, clock: Callable[[], float] = time.monotonic
) -> None:
    """Write a tick every :data:`INTERVAL_S`, unless sampling is paused, until ``stop`` is set; new problems when they
    appear.

    Args:
        probes: The probes to read.
        stop: Ends the sampling.
        file: The recording.
        lock: The open :func:`pause_lock`.
        clock: The time in seconds.
    """
    next_sample_s, known_problems = clock(), _problems_of(probes)
    while not stop.is_set():
        if file.tell() > MAX_RECORDING_BYTES:
            _append(file, ProcessCheck(checked_at_s=clock(), processes=(), problems=(FULL_RECORDING,)))
            return
        with suppress(BlockingIOError), not_paused(lock):
            readings = tuple(reading for probe in probes for reading in probe.read())
            _append(file, Tick(at_s=clock(), readings=readings))
        if (problems := _problems_of(probes)) != known_problems:
            _append(file, ProcessCheck(checked_at_s=clock(), processes=(), problems=problems))
            known_problems = problems
        next_sample_s = max(next_sample_s + INTERVAL_S, clock())
        stop.wait(next_sample_s - clock())


def _check(probes: Sequence[Probe]) -> ProcessCheck:
    results = [probe.processes() for probe in probes]
    return ProcessCheck(
        checked_at_s=time.monotonic(),
        processes=tuple(process for processes, _ in results for process in processes),
        problems=(*(problem for _, problems in results for problem in problems), *_problems_of(probes)),
    )


def _problems_of(probes: Sequence[Probe]) -> tuple[str, ...]:
    return tuple(problem for probe in probes for problem in probe.problems)


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
