"""The sampler: one process per node that records samples of its devices while the ranks work.

It appends lines to ``telemetry-<node>-<host>.jsonl``, so that no more than the last line is lost when it is killed. The
processes that compute on the GPUs are listed before the ranks are ready and after they have ended, never in between.

A tick reads all probes. What a probe reads at moments of its own (a counter whose changes count) comes in between.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol, TextIO

from bench.core.case import REPLAY_PREFIX, Case
from bench.core.frozen_model import FrozenModel
from bench.core.telemetry import LIVE, Header, ProcessCheck, Tick
from bench.host.machine import host_name, read_boot_id
from bench.host.ownership import TrialProcessIds
from bench.host.paths import from_home
from bench.plugins import registry
from bench.plugins.probe import Probe, ProbePlugin
from bench.telemetry.edges import WindowEdges, WindowPhase
from bench.telemetry.gpu_processes import judge_processes
from bench.telemetry.guarded import GuardedProbe
from bench.telemetry.pause import not_paused, pause_lock
from bench.telemetry.replay import ReplayProbe

INTERVAL_S = 0.2
"""Between two ticks, in seconds."""
MAX_RECORDING_BYTES = 63 * 2**20
"""A recording of 0.3 KB a tick takes half a day to get there; one that is longer could not be stored."""
FULL_RECORDING = f"the recording reached {MAX_RECORDING_BYTES // 2**20} MiB, and nothing was sampled from then on"
MIN_POLL_INTERVAL_S = 0.002
"""The least time from one poll to the next, in seconds."""
PHASE_INTERVAL_S = 0.02
"""How often the phase of the ranks is looked at, where a probe needs to know it, in seconds."""
LAST_POLLS_S = 0.15
"""How long the sampler polls on after its end was requested near the end of a window, in seconds."""


class StopEvent(Protocol):
    """What the sampler uses of :class:`threading.Event`."""

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
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    probes = open_probes(case)
    # Where cores are short, ranks come first.
    os.nice(5)
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
        with pause_lock(out, node).open("a") as lock:
            sample(
                probes, stop, file, lock, edges=WindowEdges(read_phase, case.window_s if case.steps is None else None)
            )
        _append(file, check())
    for probe in probes:
        probe.close()


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
    """Write a tick every :data:`INTERVAL_S`, and what probes poll in between, unless sampling is paused, until ``stop``
    is set; new problems when they appear.

    Args:
        probes: The probes to read.
        stop: Ends the sampling.
        file: The recording.
        lock: The open :func:`pause_lock`.
        clock: The time in seconds.
        edges: Tells when a window begins and ends; ``None``: there is none.
        pause: Lets so many seconds pass, once ``stop`` is set.
    """
    edges = edges or WindowEdges(lambda: "outside")
    next_tick_s, known_problems, end_s = clock(), _problems_of(probes), math.inf
    while True:
        now_s = clock()
        near_edge = edges.near(now_s)
        due_s = min((probe.due_s(near_edge) for probe in probes), default=math.inf)
        if stop.is_set():
            end_s = min(end_s, now_s + LAST_POLLS_S)
            if now_s >= end_s or not near_edge or math.isinf(due_s):
                return
        if file.tell() > MAX_RECORDING_BYTES:
            _append(file, ProcessCheck(checked_at_s=clock(), processes=(), problems=(FULL_RECORDING,)))
            return
        ticks, polls = next_tick_s <= now_s, due_s <= now_s
        if ticks or polls:
            with suppress(BlockingIOError), not_paused(lock):
                polled = tuple(reading for probe in probes for reading in probe.poll(near_edge)) if polls else ()
                read = tuple(reading for probe in probes for reading in probe.read()) if ticks else ()
                if ticks or polled:
                    _append(file, Tick(at_s=clock(), readings=(*polled, *read)))
        if (problems := _problems_of(probes)) != known_problems:
            _append(file, ProcessCheck(checked_at_s=clock(), processes=(), problems=problems))
            known_problems = problems
        if ticks:
            next_tick_s = max(next_tick_s + INTERVAL_S, clock())
        wait_s = min(next_tick_s, _next_poll_s(probes, near_edge, now_s)) - clock()
        if wait_s > 0:
            (pause if stop.is_set() else stop.wait)(wait_s)


def _next_poll_s(probes: Sequence[Probe], near_edge: bool, now_s: float) -> float:
    """When probes have to be polled, or asked again since the phase of the ranks may have changed; after a pause, or a
    poll that came to nothing, not at once."""
    due_s = min((probe.due_s(near_edge) for probe in probes), default=math.inf)
    return due_s if math.isinf(due_s) else min(max(due_s, now_s + MIN_POLL_INTERVAL_S), now_s + PHASE_INTERVAL_S)


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
