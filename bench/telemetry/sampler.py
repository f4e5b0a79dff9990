"""The sampler: one process per node that records samples of its devices while the ranks work.

It appends lines to ``telemetry-<node>-<host>.jsonl``, so that no more than the last line is lost when it is killed. The
processes that compute on the GPUs are listed before the ranks are ready and after they have ended, never in between.

A tick reads all probes. What a probe reads at moments of its own (a counter whose changes count) comes in between.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol, TextIO

from bench.core.case import REPLAY_PREFIX, Case
from bench.core.frozen_model import FrozenModel
from bench.core.telemetry import LIVE, Header, ProcessCheck, Sample, Tick
from bench.host.machine import host_name, read_boot_id
from bench.host.ownership import TrialProcessIds
from bench.host.paths import from_home
from bench.plugins import registry
from bench.plugins.probe import Probe, ProbePlugin
from bench.telemetry.edges import WindowEdges, WindowPhase
from bench.telemetry.gpu_processes import judge_processes
from bench.telemetry.guarded import GuardedProbe
from bench.telemetry.pause import Alarm, not_paused, open_lock, requested_times
from bench.telemetry.replay import ReplayProbe

INTERVAL_S = 0.2
"""Between two ticks, in seconds."""
MAX_RECORDING_BYTES = 63 * 2**20
"""A recording of 0.3 KB a tick takes half a day to get there; one that is longer could not be stored."""
FULL_RECORDING = f"the recording reached {MAX_RECORDING_BYTES // 2**20} MiB, and nothing was sampled from then on"
NOTABLE_S = 0.001
"""Between a reading and the end of its tick, in seconds."""
MIN_POLL_INTERVAL_S = 0.002
"""The least time from one poll to the next, in seconds."""
PHASE_INTERVAL_S = 0.02
"""How often the phase of the ranks is looked at, where a probe needs to know it, in seconds."""
LAST_POLLS_S = 0.4
"""How long the sampler polls on at most, where its end is requested near the end of a window, until each device has had
one more sample; in seconds."""


class StopEvent(Protocol):
    """What the sampler uses of :class:`bench.telemetry.pause.Alarm`."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float, /) -> bool: ...


def run(
    case: Case, out: Path, read_phase: Callable[[], WindowPhase], rank_pids: Callable[[int], Iterable[int]]
) -> None:
    """Sample the devices that a case needs into its folder, until SIGTERM.

    Args:
        case: The case.
        out: The trial's absolute folder.
        read_phase: Where the ranks on this node are.
        rank_pids: Takes the number of the node; returns the process ids of the trial's ranks there that have started.
    """
    stop = Alarm()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    probes = open_probes(case)
    _yield_to_ranks()
    node = int(os.environ.get("RANK", "0"))
    source = case.telemetry if case.telemetry.startswith(REPLAY_PREFIX) else LIVE

    def read_trial() -> TrialProcessIds:
        return TrialProcessIds.read(os.environ, str(out), frozenset(rank_pids(node)))

    # The processes of a replay were on another machine, or at another time.
    check = partial(_check, probes, read_trial if source == LIVE else None)
    with (out / f"telemetry-{node}-{host_name()}.jsonl").open("a") as file:
        processes = check()
        for probe in probes:
            probe.prepare(lambda: stop.is_set() or read_phase() == "window")
        header = Header(
            host=host_name(),
            source=source,
            interval_s=INTERVAL_S,
            devices=tuple(device for probe in probes for device in probe.devices),
            problems=_problems_of(probes),
            node=node,
            boot_id=read_boot_id(),
            update_timings=tuple(timing for probe in probes for timing in probe.update_timings),
        )
        _append(file, header)
        _append(file, processes)
        with open_lock(out, node) as lock:
            stop.watch(out, node)
            expected_s = case.target_window_s if case.steps is None else None
            sample(probes, stop, file, lock, edges=WindowEdges(read_phase, expected_s))
        _append(file, check())
    for probe in probes:
        probe.close()


def _yield_to_ranks() -> None:
    """Where cores are short, ranks come first: a tick waits until one of them waits, instead of interrupting it."""
    os.nice(5)
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def open_probes(case: Case) -> list[GuardedProbe]:
    """The opened probes that the case needs: all that there are, or the recording that replaces them."""
    if case.telemetry.startswith(REPLAY_PREFIX):
        path = from_home(case.telemetry.removeprefix(REPLAY_PREFIX))
        return [GuardedProbe("replay", lambda: ReplayProbe(path))]

    def open_probe(load: Callable[[], ProbePlugin]) -> Probe | None:
        return load().open(case)

    return [GuardedProbe(name, partial(open_probe, load)) for name, load in registry.probes_of(case).items()]


def sample(
    probes: Sequence[Probe],
    stop: StopEvent,
    file: TextIO,
    lock: TextIO,
    clock: Callable[[], float] = time.monotonic,
    edges: WindowEdges | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Write a tick every :data:`INTERVAL_S`, or as often as requested, and what probes poll in between, unless sampling
    is paused, until ``stop`` is set; new problems when they appear.

    Args:
        probes: The probes to read.
        stop: Ends the sampling.
        file: The recording.
        lock: The file of :func:`bench.telemetry.pause.open_lock`.
        clock: The time in seconds.
        edges: Tells when a window begins and ends; ``None``: there is none.
        pause: Lets so many seconds pass, once ``stop`` is set.
    """
    sampling = _Sampling(probes, file, lock, clock, edges or WindowEdges(lambda: "outside"))
    while not stop.is_set() and not sampling.is_full:
        sampling.look()
        if stop.wait(max(0.0, sampling.next_s - clock())):
            sampling.look_up()
    sampling.finish(pause)


class _Sampling:
    """The state of :func:`sample`, whose arguments it has."""

    def __init__(
        self, probes: Sequence[Probe], file: TextIO, lock: TextIO, clock: Callable[[], float], edges: WindowEdges
    ) -> None:
        self.probes, self.file, self.lock, self.clock, self.edges = probes, file, lock, clock, edges
        self.is_full = False
        self.next_s = self.next_tick_s = clock()
        """When to look again, and when the next tick is due."""
        self.polled_devices: set[str] = set()
        self._known_problems = _problems_of(probes)

    def look(self) -> set[str]:
        """Read what is due now, and return the devices of what was polled."""
        now_s = self.clock()
        near_edge = self.edges.near(now_s)
        ticks, polls = self.next_tick_s <= now_s, self._due_s(near_edge) <= now_s
        polled: list[Sample] = []
        paused = ticks or polls
        if ticks or polls:
            with suppress(BlockingIOError), not_paused(self.lock):
                paused = False
                polled = [reading for probe in self.probes for reading in probe.poll(near_edge)] if polls else []
                read = _read(self.probes, self.clock) if ticks else []
                if ticks or polled:
                    _append(self.file, Tick(at_s=self.clock(), readings=(*polled, *read)))
        self._append_news()
        if ticks:
            interval_s = INTERVAL_S / requested_times(self.lock)
            self.next_tick_s = max(self.next_tick_s + interval_s, self.clock())
        # The phase of the ranks is looked at only where a probe polls: it would know no better moment than a tick.
        due_s = self._due_s(near_edge)
        earliest_s = now_s + (PHASE_INTERVAL_S if paused else MIN_POLL_INTERVAL_S)
        poll_s = due_s if math.isinf(due_s) else max(earliest_s, min(due_s, now_s + PHASE_INTERVAL_S))
        self.next_s = min(self.next_tick_s, poll_s)
        devices = {reading.device for reading in polled}
        self.polled_devices |= devices
        return devices

    def look_up(self) -> None:
        """Tick sooner where more ticks are requested now."""
        self.next_tick_s = min(self.next_tick_s, self.clock() + INTERVAL_S / requested_times(self.lock))
        self.next_s = min(self.next_s, self.next_tick_s)

    def finish(self, pause: Callable[[float], object]) -> None:
        """Read on for a moment, where a window has just ended, until all polled devices have had one more sample."""
        end_s, missing = self.clock() + LAST_POLLS_S, set(self.polled_devices)
        while missing and self.clock() < end_s and self.edges.near(self.clock()) and not self.is_full:
            missing -= self.look()
            pause(max(0.0, self.next_s - self.clock()))

    def _due_s(self, near_edge: bool) -> float:
        return min((probe.due_s(near_edge) for probe in self.probes), default=math.inf)

    def _append_news(self) -> None:
        """New problems, and the last line of a recording that has become too long."""
        problems = _problems_of(self.probes)
        if problems != self._known_problems:
            _append(self.file, ProcessCheck(checked_at_s=self.clock(), processes=(), problems=problems))
            self._known_problems = problems
        if self.file.tell() > MAX_RECORDING_BYTES:
            self.is_full = True
            _append(self.file, ProcessCheck(checked_at_s=self.clock(), processes=(), problems=(FULL_RECORDING,)))


def _read(probes: Sequence[Probe], clock: Callable[[], float]) -> list[Sample]:
    """What all probes read in a tick. Where later ones take their time, the readings of earlier ones get their own."""
    read = [(probe.read(), clock()) for probe in probes]
    end_s = clock()
    return [
        sample if sample.at_s is not None or end_s - at_s < NOTABLE_S else sample._replace(at_s=round(at_s, 6))
        for samples, at_s in read
        for sample in samples
    ]


def _check(probes: Sequence[Probe], read_trial: Callable[[], TrialProcessIds] | None) -> ProcessCheck:
    results = [probe.processes() for probe in probes]
    processes = [process for processes, _ in results for process in processes]
    return ProcessCheck(
        checked_at_s=time.monotonic(),
        processes=tuple(processes) if read_trial is None else judge_processes(processes, read_trial()),
        problems=(*(problem for _, problems in results for problem in problems), *_problems_of(probes)),
    )


def _problems_of(probes: Sequence[Probe]) -> tuple[str, ...]:
    return tuple(problem for probe in probes for problem in probe.problems)


def _append(file: TextIO, value: FrozenModel) -> None:
    file.write(value.model_dump_json() + "\n")
    file.flush()
